"""The moving picture of the documentation: what saccade-mini saw while it worked, dropped patches darkened.

    python -m benchmarks.picture sim/saccade_mini/bundle --profile keep12.5

One solved episode for each task, recorded through the real daemon and client.
"""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.charts import CHARTS
from saccade.sim.connection import connect
from saccade.sim.evaluation import EvaluationPlan, Unwatched, evaluate
from saccade.sim.recorder import ClipRecorder
from saccade.sim.report.moving_picture import write_moving_picture
from saccade.sim.seeds import held_out_seeds


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--profile", default="keep12.5", show_default=True)
@click.option("--seed0", default=0, show_default=True, help="First seed to look for a solved episode from.")
@click.option("--out", type=click.Path(path_type=Path), default=CHARTS / "episodes.webp")
def main(bundle: Path, profile: str, seed0: int, out: Path) -> None:
    """Record BUNDLE and write the picture."""
    with connect(bundle) as connection:
        manifest = connection.manifest
        recorder = ClipRecorder.of_smallest(manifest, (profile,), Unwatched())
        templates = connection.table.templates
        evaluate(connection, EvaluationPlan(templates, (profile,), held_out_seeds(seed0, 4)), recorder)
    out.parent.mkdir(parents=True, exist_ok=True)
    clips = [recorder.clips[template] for template in templates]
    frames = write_moving_picture(clips, manifest.grid, out)
    click.echo(f"{out}: {frames} frames, {out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
