"""What an evaluation showed, written into the bundle that it was about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from saccade.proto.bundle_layout import MANIFEST_NAME
from saccade.proto.closed_loop import ClosedLoopReceipt, Outcomes
from saccade.proto.errors import SimulatorError
from saccade.proto.manifest import read_manifest, write_manifest
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.writable import check_file, check_folder
from saccade.runtime.provenance import provenance
from saccade.sim.connection import Connection
from saccade.sim.evaluation import EvaluationPlan, Results, time_to_json
from saccade.sim.tabletop.table import Table


def check_receivable(plan: EvaluationPlan, bundle: Path, table: Table) -> None:
    """Refuse an evaluation that shows too little of a bundle, and a bundle that nothing can be written into.

    Args:
        plan: What is to be run.
        bundle: Directory of the bundle.
        table: The table that it plays on.

    Raises:
        SimulatorError: The model is told another task than the one that counts, or a task or ``full`` is left out.
        FileError: The operating system refuses to write the bundle's manifest, or beside the bundle.
    """
    left_out = {*table.templates, FULL_PROFILE} - {*plan.templates, *plan.profiles}
    if left_out:
        raise SimulatorError(
            f"expected every task of the table {table.name}, and {FULL_PROFILE} to compare with, found "
            f"{', '.join(sorted(left_out))} left out: a receipt of the rest would say too much."
        )
    check_folder(bundle.parent)
    check_file(bundle / MANIFEST_NAME)
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
    return ClosedLoopReceipt(outcomes, connection.lowering, settings)


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
