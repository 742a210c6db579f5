"""A plan is run as it stands, and its results say where they come from."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from saccade.proto.errors import SimulatorError, UnknownTaskError
from saccade.sim.closed_loop import Episode, Moment
from saccade.sim.connection import Connection
from saccade.sim.evaluation import ALL_TASKS, EvaluationPlan, Results, Unwatched, evaluate, results_to_json


class Log:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, str, int]] = []
        self.ended: list[Episode] = []

    def begin(self, template: str, profile: str, seed: int) -> Callable[[Moment], None] | None:
        self.begun.append((template, profile, seed))
        return None

    def end(self, episode: Episode) -> None:
        self.ended.append(episode)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def results(in_process: Connection, log: Log) -> Results:
    return evaluate(in_process, EvaluationPlan(("reach", "stack"), ("full", "keep25"), range(3, 5)), log)


def test_every_cell_runs_on_the_same_seeds_in_turns(results: Results, log: Log) -> None:
    expected = [(t, p, s) for t in ("reach", "stack") for s in (3, 4) for p in ("full", "keep25")]
    assert log.begun == expected
    assert log.ended == list(results.episodes)
    assert [(e.template, e.profile, e.seed) for e in results.episodes] == expected


def test_the_same_seed_tells_every_profile_the_same(results: Results) -> None:
    for one, other in zip(results.of("full"), results.of("keep25"), strict=True):
        assert one.instruction == other.instruction


def test_rows_for_each_cell_and_for_all(results: Results) -> None:
    rows = [(row.template, row.profile, row.success.episodes) for row in results.scores()]
    assert rows == [
        ("reach", "full", 2),
        ("reach", "keep25", 2),
        ("stack", "full", 2),
        ("stack", "keep25", 2),
        (ALL_TASKS, "full", 4),
        (ALL_TASKS, "keep25", 4),
    ]


def test_results_are_json_that_names_machine_and_versions(results: Results, in_process: Connection) -> None:
    found = json.loads(json.dumps(results_to_json(results, in_process)))
    assert found["machine"]["cores"] >= 1 and found["versions"]["onnxruntime"]
    assert found["transport"] == "in-process" and found["seeds"] == [3, 5]
    assert found["table"] == "shapes" and found["time"] == {"is_live": False, "latency_ms": None}
    assert len(found["scores"]) == 6 and len(found["cells"]) == 4
    cell = found["cells"][1]
    assert (cell["task"], cell["profile"], cell["first_seed"], cell["outcomes"]) == (
        "reach",
        "keep25",
        3,
        "00",
    )
    assert len(cell["latency_us"]) == sum(cell["control_steps"]), "warm-up steps too"


def test_a_chunk_has_only_so_many_actions(in_process: Connection) -> None:
    with pytest.raises(SimulatorError, match="at most the 8 actions of a chunk, found 9"):
        evaluate(in_process, EvaluationPlan(("reach",), ("full",), range(1), execute=9), Unwatched())


def test_only_what_the_table_has_can_be_asked_for(in_process: Connection) -> None:
    with pytest.raises(UnknownTaskError, match="reach, push, place, stack, intercept, found 'fly'"):
        evaluate(in_process, EvaluationPlan(("reach", "fly"), ("full",), range(1)), Unwatched())


def test_a_plan_is_checked() -> None:
    with pytest.raises(SimulatorError, match="tasks, each named once, found none"):
        EvaluationPlan((), ("full",), range(1))
    with pytest.raises(SimulatorError, match="tasks, each named once, found reach, reach"):
        EvaluationPlan(("reach", "reach"), ("full",), range(1))
    with pytest.raises(SimulatorError, match="profiles, each named once, found none"):
        EvaluationPlan(("reach",), (), range(1))
    with pytest.raises(SimulatorError, match="opening of 0 control steps or more, found -1"):
        EvaluationPlan(("reach",), ("full",), range(1), opening=-1)
    with pytest.raises(SimulatorError, match="at least 1 action"):
        EvaluationPlan(("reach",), ("full",), range(1), execute=0)
