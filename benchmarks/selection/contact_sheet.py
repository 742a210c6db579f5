"""A contact sheet: what each policy looks at in the same frames; a row for each policy, a column for each frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.selection.phases import Recorded, record
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.session import Session
from saccade.sim.report.overlay import overlaid

_SEEDS = range(3000, 3001)
_MOMENTS = (0.6, 0.95)
"""Shares of an episode at which its frames are shown."""
_GAP, _NAME_WIDTH, _HEAD = 4, 150, 34
_INK, _PAPER = (27, 29, 33), (255, 255, 255)


@dataclass(frozen=True)
class _Strip:
    """One row of the sheet."""

    name: str
    frames: tuple[NDArray[np.uint8], ...]


def contact_sheet(bundles: Mapping[str, Path], *, profile: str, threads: int = 2) -> Image.Image:
    """Draw every bundle's tokens over frames of one episode of each task.

    Args:
        bundles: Folder of each bundle, by label; the first one's unpruned model acts.
        profile: Name of the profile that is shown.
        threads: Threads of the engine.
    """
    episodes = record(next(iter(bundles.values())), _SEEDS, threads=threads)
    heads = [episode.instruction for episode in episodes for _ in _MOMENTS]
    strips = [_strip(label, path, profile, episodes, threads) for label, path in bundles.items()]
    return _paste(heads, strips)


def _strip(label: str, path: Path, profile: str, episodes: Sequence[Recorded], threads: int) -> _Strip:
    bundle, frames = Bundle.open(path), []
    views, grid = bundle.manifest.views, bundle.manifest.grid
    with OrtBackend(threads=threads) as backend:
        session = Session(ProgramExecutor(bundle, backend))
        for episode in episodes:
            session.reset(episode.instruction)
            shown = {round(moment * (len(episode.observations) - 1)) for moment in _MOMENTS}
            for number, observation in enumerate(episode.observations):
                chunk = session.act(replace(observation, wants_telemetry=True), profile)
                if number not in shown or chunk.telemetry is None:
                    continue
                fate = chunk.telemetry.fate
                frames.append(
                    np.concatenate(
                        [
                            overlaid(observation.images[view.name], fate, grid, index)
                            for index, view in enumerate(views)
                        ],
                        axis=1,
                    )
                )
    return _Strip(label, tuple(frames))


def _paste(heads: Sequence[str], strips: Sequence[_Strip]) -> Image.Image:
    height, width = strips[0].frames[0].shape[:2]
    columns = len(strips[0].frames)
    sheet = Image.new(
        "RGB",
        (_NAME_WIDTH + columns * (width + _GAP), _HEAD + len(strips) * (height + _GAP)),
        _PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    for place, words in enumerate(heads[:columns]):
        draw.text((_NAME_WIDTH + place * (width + _GAP), 12), words, fill=_INK)
    for row, strip in enumerate(strips):
        top = _HEAD + row * (height + _GAP)
        draw.text((6, top + height // 2 - 6), strip.name, fill=_INK)
        for place, frame in enumerate(strip.frames):
            sheet.paste(Image.fromarray(frame), (_NAME_WIDTH + place * (width + _GAP), top))
    return sheet
