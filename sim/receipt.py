"""What an evaluation showed, written into the bundle that it was about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from saccade.proto.closed_loop import ClosedLoopReceipt, Outcomes
from saccade.proto.errors import SimulatorError
from saccade.proto.manifest import read_manifest, write_manifest
from saccade.runtime.provenance import provenance
from saccade.sim.connection import Connection
from saccade.sim.evaluation import EvaluationPlan, Results, time_to_json


def check_receivable(plan: EvaluationPlan) -> None:
    """Refuse an evaluation that shows nothing of a bundle.

    Args:
        plan: What is to be run.

    Raises:
        SimulatorError: The model is told another task than the one that counts.
    """
    if plan.is_told_wrong:
        raise SimulatorError(
            "expected an evaluation of the tasks that the model is told, found the control experiment: leave out "
            "--receipt or --wrong-instruction."
        )


def closed_loop_receipt(results: Results, connection: Connection) -> ClosedLoopReceipt:
    """Return how often each profile did each task.

    Args:
        results: Everything that was run.
        connection: The robot that ran it.
    """
    plan = results.plan
    outcomes = {
        profile: {template: _outcomes(results, profile, template) for template in plan.templates}
        for profile in plan.profiles
    }
    settings = {
        **provenance(),
        "engine": connection.engine,
        "table": connection.table.name,
        "seeds": [plan.seeds.start, plan.seeds.stop],
        "execute": plan.execute,
        "time": time_to_json(plan.live),
    }
    return ClosedLoopReceipt(outcomes, settings)


def write_closed_loop_receipt(bundle: Path, receipt: ClosedLoopReceipt) -> None:
    """Put a receipt into a bundle's manifest, in place of an earlier one.

    Args:
        bundle: Directory of the bundle.
        receipt: How often each profile did each task.

    Raises:
        BundleError: There is no bundle.
        FileError: The operating system refuses to write its manifest; it is as it was.
    """
    write_manifest(replace(read_manifest(bundle), closed_loop=receipt), bundle)


def _outcomes(results: Results, profile: str, template: str) -> Outcomes:
    episodes = results.of(profile, template)
    return Outcomes(sum(episode.is_success for episode in episodes), len(episodes))
