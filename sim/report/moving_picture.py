"""Recorded episodes as one moving picture: the views side by side, and what became of their visual tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from saccade.proto.manifest import GridSpec
from saccade.sim.recorder import Clip
from saccade.sim.report.overlay import overlaid

_SCALE = 2
_CAPTION_PX = 26
_GAP_PX = 12
_COLUMNS = 2
_MOMENT_MS = 200
_HOLD_MS = 1500
_QUALITY = 72
_INK, _PAPER, _LIT = "#1b1d21", "#fbfaf8", "#c2701c"


def write_moving_picture(clips: Sequence[Clip], grid: GridSpec, out: Path) -> int:
    """Write clips as an animated WebP, laid out in two columns, and return how many moments it shows.

    Args:
        clips: Episodes to show, at least one.
        grid: How visual tokens tile the views.
        out: File to write.
    """
    length = max(len(clip.frames) for clip in clips)
    sheets = [sheet(clips, grid, moment) for moment in range(length)]
    durations_ms = [_MOMENT_MS] * (length - 1) + [_HOLD_MS]
    sheets[0].save(
        out,
        "WEBP",
        save_all=True,
        append_images=sheets[1:],
        duration=durations_ms,
        loop=0,
        quality=_QUALITY,
        method=6,
    )
    return length


def sheet(clips: Sequence[Clip], grid: GridSpec, moment: int) -> Image.Image:
    """Lay the clips out at one moment; a clip that has ended stands still."""
    panels = [panel(clip, grid, min(moment, len(clip.frames) - 1)) for clip in clips]
    width, height = panels[0].size
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    paper = Image.new(
        "RGB",
        (columns * width + (columns + 1) * _GAP_PX, rows * height + (rows + 1) * _GAP_PX),
        _PAPER,
    )
    for index, each in enumerate(panels):
        row, column = divmod(index, columns)
        paper.paste(each, (_GAP_PX + column * (width + _GAP_PX), _GAP_PX + row * (height + _GAP_PX)))
    return paper


def panel(clip: Clip, grid: GridSpec, moment: int) -> Image.Image:
    """Draw one clip at one moment: its views side by side, and what was said to it."""
    telemetry = clip.telemetry[moment]
    everything = np.arange(grid.tokens)
    fate = everything if telemetry is None else telemetry.fate
    views = [overlaid(seen, fate, grid, view, scale=_SCALE) for view, seen in enumerate(clip.frames[moment])]
    image = Image.fromarray(np.concatenate(views, axis=1))
    captioned = Image.new("RGB", (image.width, image.height + _CAPTION_PX), _PAPER)
    captioned.paste(image, (0, 0))
    draw = ImageDraw.Draw(captioned)
    baseline = image.height + 6
    draw.text((0, baseline), clip.episode.instruction, fill=_INK, font_size=15)
    count = clip.profiles[moment] if telemetry is None else f"{len(telemetry.kept)} of {grid.tokens} patches"
    draw.text((image.width, baseline), count, fill=_LIT, font_size=15, anchor="ra")
    return captioned
