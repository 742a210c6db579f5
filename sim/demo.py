"""The main job: daemon, client and arm at several keep ratios, then a report that shows what the model looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from saccade.sim.claim import claim_of, reduced_profiles
from saccade.sim.connection import Connection, connect, profiles_for
from saccade.sim.display import LiveProgress, score_table
from saccade.sim.evaluation import EvaluationPlan, check_tasks, evaluate, results_to_json
from saccade.sim.live_time import LiveTime
from saccade.sim.recorder import ClipRecorder
from saccade.sim.report.html_report import Report, render_report


@dataclass(frozen=True)
class Shown:
    """What a demonstration leaves behind.

    Args:
        report: HTML of one page.
        results: Every episode, as plain JSON values.
    """

    report: str
    results: dict[str, Any]


def run_demo(
    bundle: Path,
    *,
    tasks: tuple[str, ...] | None,
    keep: tuple[float, ...] | None,
    seeds: range,
    live: LiveTime | None,
    console: Console,
) -> Shown:
    """Run the demonstration.

    Args:
        bundle: Directory of the bundle.
        tasks: Task templates; None = all that the table has.
        keep: Keep ratios; the smallest one is recorded. None = all tokens, and the bundle's share nearest to a quarter.
        seeds: Seeds of the episodes, held out of training.
        live: How much simulated time a control step takes; None = the world waits.
        console: Gets the progress and the table.

    Returns:
        The report and the results behind it.

    Raises:
        SaccadeError: The daemon cannot start, or an episode cannot run.
    """
    console.print("starting the daemon ...", style="dim")
    with connect(bundle) as connection:
        tasks = tasks or connection.table.templates
        check_tasks(tasks, connection.table)
        manifest = connection.manifest
        profiles = reduced_profiles(manifest) if keep is None else profiles_for(manifest, keep)
        return _run(connection, EvaluationPlan(tasks, profiles, seeds, live=live), console)


def _run(connection: Connection, plan: EvaluationPlan, console: Console) -> Shown:
    manifest = connection.manifest
    console.print(
        f"[bold]{manifest.name}[/] ({manifest.family}, {manifest.policy.name}) behind a real daemon over "
        f"{connection.transport}, {connection.engine}: {len(plan.seeds)} held-out episodes a cell, "
        f"{'a world that waits' if plan.live is None else 'a world that runs on while the model thinks'}"
    )
    with LiveProgress(plan, console) as progress:
        recorder = ClipRecorder.of_smallest(manifest, plan.profiles, progress)
        results = evaluate(connection, plan, recorder)
    claim = claim_of(results, manifest.grid.tokens)
    if claim is not None:
        console.print(claim.sentence(), style="bold", highlight=False)
    console.print(score_table(results.scores()))
    report = Report(manifest, connection.engine, connection.transport, results, recorder.clips, claim)
    said = {"claim": None if claim is None else claim.to_json()}
    return Shown(render_report(report), {**said, **results_to_json(results, connection)})
