"""The moving picture of the documentation: what saccade-mini saw while it worked, dropped patches darkened.

    python -m benchmarks.picture sim/saccade_mini/bundle --profile keep12.5

One solved episode for each task, recorded through the real daemon and client.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw

from benchmarks.charts import CHARTS
from saccade.proto.manifest import GridSpec
from saccade.sim.connection import connect
from saccade.sim.evaluation import Plan, Unwatched, evaluate
from saccade.sim.recorder import Clip, ClipRecorder
from saccade.sim.seeds import held_out_seeds
from saccade.sim.tabletop.tasks import TEMPLATES

_SCALE = 2
_CAPTION_PX = 26
_FRAME_MS = 200
_HOLD_MS = 1500
_DARKEN = 0.28
_INK, _PAPER, _LIT = "#1b1d21", "#fbfaf8", "#c2701c"


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--profile", default="keep12.5", show_default=True)
@click.option("--seed0", default=0, show_default=True, help="First seed to look for a solved episode from.")
@click.option("--out", type=click.Path(path_type=Path), default=CHARTS / "episodes.webp")
def main(bundle: Path, profile: str, seed0: int, out: Path) -> None:
    """Record BUNDLE and write the picture."""
    with connect(bundle) as connection:
        manifest = connection.manifest
        recorder = ClipRecorder(profile, tuple(view.name for view in manifest.views), Unwatched())
        evaluate(connection, Plan(TEMPLATES, (profile,), held_out_seeds(seed0, 4)), recorder)
    clips = [recorder.clips[template] for template in TEMPLATES]
    length = max(len(clip.frames) for clip in clips)
    pictures = [picture(clips, manifest.grid, moment) for moment in range(length)]
    out.parent.mkdir(parents=True, exist_ok=True)
    durations_ms = [_FRAME_MS] * (length - 1) + [_HOLD_MS]
    pictures[0].save(
        out, save_all=True, append_images=pictures[1:], duration=durations_ms, loop=0, quality=72, method=6
    )
    click.echo(f"{out}: {length} frames, {out.stat().st_size / 1e3:.0f} kB")


def picture(clips: list[Clip], grid: GridSpec, moment: int) -> Image.Image:
    """Lay the clips out in two columns at one moment; a clip that has ended stands still."""
    panels = [panel(clip, grid, min(moment, len(clip.frames) - 1)) for clip in clips]
    width, height = panels[0].size
    gap = 12
    sheet = Image.new("RGB", (2 * width + 3 * gap, 2 * height + 3 * gap), _PAPER)
    for index, each in enumerate(panels):
        row, column = divmod(index, 2)
        sheet.paste(each, (gap + column * (width + gap), gap + row * (height + gap)))
    return sheet


def panel(clip: Clip, grid: GridSpec, moment: int) -> Image.Image:
    """One clip at one moment: its views side by side, and what was said to it."""
    views = [lit(frame, grid, view, set(clip.kept[moment])) for view, frame in enumerate(clip.frames[moment])]
    image = Image.fromarray(np.concatenate(views, axis=1))
    image = image.resize((image.width * _SCALE, image.height * _SCALE), Image.Resampling.LANCZOS)
    framed = Image.new("RGB", (image.width, image.height + _CAPTION_PX), _PAPER)
    framed.paste(image, (0, 0))
    draw = ImageDraw.Draw(framed)
    baseline = image.height + 6
    draw.text((0, baseline), clip.episode.instruction, fill=_INK, font_size=15)
    draw.text(
        (image.width, baseline),
        f"{len(clip.kept[moment])} of {grid.tokens} patches",
        fill=_LIT,
        font_size=15,
        anchor="ra",
    )
    return framed


def lit(frame: np.ndarray, grid: GridSpec, view: int, kept: set[int]) -> np.ndarray:
    """Darken the patches of a view that were dropped: uint8 ``(height, width, 3)``."""
    mask = np.array(
        [view * grid.rows * grid.columns + token in kept for token in range(grid.rows * grid.columns)]
    )
    height, width = frame.shape[0] // grid.rows, frame.shape[1] // grid.columns
    light = np.kron(mask.reshape(grid.rows, grid.columns), np.ones((height, width)))[..., None]
    return (frame * (_DARKEN + (1 - _DARKEN) * light)).astype(np.uint8)


if __name__ == "__main__":
    main()
