from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest

from saccade.proto.closed_loop import Outcomes
from saccade.proto.errors import FileError, SimulatorError
from saccade.runtime.bundle import Bundle
from saccade.sim.closed_loop import Episode
from saccade.sim.connection import Connection
from saccade.sim.evaluation import EvaluationPlan, Results
from saccade.sim.receipt import check_receivable, closed_loop_receipt, write_closed_loop_receipt

PLAN = EvaluationPlan(("reach", "push"), ("full", "keep25"), range(40, 42))


def episode(template: str, seed: int, profile: str, *, is_success: bool) -> Episode:
    return Episode(template, seed, profile, "do it", is_success, is_success, 10, ())


def test_a_bundle_keeps_what_was_seen_of_it(bundle: Path, in_process: Connection, tmp_path: Path) -> None:
    episodes = [
        episode(template, seed, profile, is_success=profile == "full" or seed == 40)
        for template in PLAN.templates
        for seed in PLAN.seeds
        for profile in PLAN.profiles
    ]
    own = copytree(bundle, tmp_path / "own")
    receipt = closed_loop_receipt(Results(PLAN, tuple(episodes), {"full": 32, "keep25": 8}), in_process)
    write_closed_loop_receipt(own, receipt)
    found = Bundle.open(own).manifest.closed_loop
    assert found == receipt
    assert found.outcomes == {
        "full": {"reach": Outcomes(2, 2), "push": Outcomes(2, 2)},
        "keep25": {"reach": Outcomes(1, 2), "push": Outcomes(1, 2)},
    }
    assert (found.settings["seeds"], found.settings["engine"]) == ([40, 42], "ort-cpu")


def test_too_little_says_nothing_of_a_bundle(bundle: Path, in_process: Connection) -> None:
    table = in_process.table
    whole = EvaluationPlan(table.templates, ("full", "keep25"), range(1))
    check_receivable(whole, bundle, table)
    for plan, message in (
        (replace(whole, is_told_wrong=True), "found the control experiment"),
        (replace(whole, profiles=("keep25",)), "found full left out"),
        (replace(whole, templates=("reach",)), "found intercept, place, push, stack left out"),
    ):
        with pytest.raises(SimulatorError, match=message):
            check_receivable(plan, bundle, table)


def test_a_place_that_cannot_be_written_is_found_before_the_work(
    bundle: Path, in_process: Connection
) -> None:
    plan = EvaluationPlan(in_process.table.templates, ("full",), range(1))
    with pytest.raises(FileError, match="found: "):
        check_receivable(plan, Path("/dev/null/bundle"), in_process.table)
