"""How smoothly and how well the arm is driven under delay: each mode of a control loop, and actions as they come.

python -m benchmarks.seams --bundle sim/saccade_mini/bundle --episodes 50

In live time with a fixed delay, so that a run goes the same way again. For each mode and delay: successes, and of every
episode the largest change of an action, commanded speed and commanded jerk, where two chunks meet and elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.results_file import RESULTS, write_results
from saccade.proto.errors import SaccadeError
from saccade.runtime.motion.chunk_queue import QueueMode
from saccade.runtime.provenance import provenance
from saccade.sim.connection import Connection, connect
from saccade.sim.driven_episode import MotionPlan
from saccade.sim.evaluation import EvaluationPlan, Results, Unwatched, cell_to_json, evaluate
from saccade.sim.live_time import LiveTime
from saccade.sim.seeds import held_out_seeds

AS_THEY_COME = "as they come"
"""The first actions of each chunk, executed as they are; the arm waits while the model thinks."""
MODES = (AS_THEY_COME, *(mode.value for mode in QueueMode))


def plan_of(
    mode: str, delay_ms: float, *, tasks: tuple[str, ...], profile: str, seeds: range, watchdog_ms: float
) -> EvaluationPlan:
    """Return what one row of the table runs."""
    motion = None if mode == AS_THEY_COME else MotionPlan(QueueMode(mode), round(watchdog_ms * 1e6))
    return EvaluationPlan(tasks, (profile,), seeds, live=LiveTime(delay_ms), motion=motion)


def rows_of(mode: str, delay_ms: float, results: Results) -> list[dict[str, Any]]:
    """Return a row for each task: outcomes and, where commands are limited, the figures of every episode."""
    plan = results.plan
    return [
        {"mode": mode, "delay_ms": delay_ms, **cell_to_json(results.of(plan.profiles[0], template))}
        for template in plan.templates
    ]


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """Return a line about rows of one mode and delay, for people."""
    outcomes = "".join(row["outcomes"] for row in rows)
    line = f"{rows[0]['mode']:<13} {rows[0]['delay_ms']:>4.0f} ms  {outcomes.count('1')}/{len(outcomes)}"
    figures = [each for row in rows for each in row.get("motion", ())]
    if figures:
        change, speed, jerk = (
            max(each[name] for each in figures) for name in ("seam_change", "seam_velocity", "seam_jerk")
        )
        latched = sum(each["is_latched"] for each in figures)
        line += f"  seams: {change * 1e3:.1f} mm a step, {speed:.2f} m/s, {jerk:.0f} m/s³; latched {latched}"
    return line


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), required=True)
@click.option("--profile", default="full", show_default=True)
@click.option("--tasks", help="Default: all that the bundle's table has.")
@click.option("--modes", default=",".join(MODES), show_default=True)
@click.option("--delays-ms", default="50,100,150,200,250,300", show_default=True)
@click.option("--episodes", default=50, show_default=True, help="Of each task, mode and delay.")
@click.option("--seed0", default=0, show_default=True)
@click.option(
    "--watchdog-ms",
    default=500.0,
    show_default=True,
    help="A patient one: where the delay leaves holes between chunks, they shall be seen and not end the episode.",
)
@click.option("--threads", default=1, show_default=True, help="Threads of the engine; 0 = one for each core.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS / "seams.json", show_default=True)
def main(  # noqa: PLR0913, PLR0917 - one for each option
    bundle: Path,
    profile: str,
    tasks: str | None,
    modes: str,
    delays_ms: str,
    episodes: int,
    seed0: int,
    watchdog_ms: float,
    threads: int,
    out: Path,
) -> None:
    """Run every mode at every delay through a daemon, and write OUT after each."""
    console, rows = Console(), list[dict[str, Any]]()
    seeds = held_out_seeds(seed0, episodes)
    try:
        with connect(bundle, threads=threads, limits_itself=True) as connection:
            templates = _words(tasks) if tasks else connection.table.templates
            for delay_ms in (float(word) for word in _words(delays_ms)):
                for mode in _words(modes):
                    plan = plan_of(
                        mode, delay_ms, tasks=templates, profile=profile, seeds=seeds, watchdog_ms=watchdog_ms
                    )
                    new = rows_of(mode, delay_ms, evaluate(connection, plan, Unwatched()))
                    console.print(summary(new), markup=False, highlight=False)
                    rows += new
                    write_results(out, {**_head(connection, seeds, watchdog_ms), "rows": rows})
    except SaccadeError as error:
        raise click.ClickException(f"{error.message} [{error.code}]") from error


def _head(connection: Connection, seeds: range, watchdog_ms: float) -> dict[str, Any]:
    manifest = connection.manifest
    return {
        **provenance(),
        "bundle": {"name": manifest.name, "created": manifest.created, "policy": manifest.policy.name},
        "engine": connection.engine,
        "seeds": [seeds.start, seeds.stop],
        "watchdog_ms": watchdog_ms,
    }


if __name__ == "__main__":
    main()
