from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from saccade.proto.errors import ServeError
from saccade.runtime.deadline.chooser import ProfileChooser
from saccade.runtime.deadline.step_times import StepTimes
from saccade.runtime.observation import ProfileChoice

IDLE = {"full": 40, "keep50": 30, "keep25": 20, "keep12.5": 15}
ALL = ("full", "keep50", "keep25", "keep12.5")
STILL = {"scene": np.zeros((8, 8, 3), np.uint8)}
LIT = {"scene": np.full((8, 8, 3), 255, np.uint8)}


class Machine:
    """A machine whose load the test sets; time is in nanoseconds, as small as it gets."""

    def __init__(self, deadline: int = 50, allowed: tuple[str, ...] = ALL) -> None:
        self.chooser = ProfileChooser(deadline, StepTimes(IDLE), allowed)

    def step(
        self,
        load: float = 1.0,
        *,
        asked: str = "full",
        age: int = 0,
        images: dict[str, NDArray[np.uint8]] = STILL,
    ) -> ProfileChoice:
        chosen = self.chooser.choose(asked, age, images)
        self.chooser.note(chosen.profile, round(IDLE[chosen.profile] * load))
        return chosen


def test_an_idle_machine_runs_what_was_asked_for() -> None:
    machine = Machine()
    assert {(step.profile, step.is_switch) for step in (machine.step() for _ in range(20))} == {
        ("full", False)
    }
    assert machine.step(asked="keep25").profile == "keep25"


def test_under_load_the_largest_that_is_over_in_time_is_taken_at_once() -> None:
    machine = Machine()
    machine.step(1.6)
    machine.step(1.6)
    first = machine.step(1.6)
    assert (first.profile, first.reason, first.is_switch) == ("keep50", "too slow", True)
    assert (first.predicted_ns, first.deadline_ns) == (48, 50)
    assert not machine.step(1.6).is_switch


def test_where_nothing_fits_the_smallest_runs_and_says_so() -> None:
    machine = Machine()
    for _ in range(3):
        last = machine.step(9)
    assert (last.profile, last.reason) == ("keep12.5", "nothing fits")


def test_up_goes_with_patience_and_only_with_time_to_spare() -> None:
    machine = Machine()
    for _ in range(3):
        machine.step(1.6)
    calm = [machine.step(1.0) for _ in range(30)]
    assert [step.is_switch for step in calm].count(True) == 1
    up = next(step for step in calm if step.is_switch)
    assert (up.profile, up.reason) == ("full", "time to spare")
    assert calm.index(up) >= 8
    tight = Machine(deadline=44)  # full fits, but not with a tenth to spare
    for _ in range(3):
        tight.step(1.3)
    assert {tight.step(1.0).profile for _ in range(30)} == {"keep50"}


def test_something_new_to_see_waives_the_patience() -> None:
    machine = Machine()
    for _ in range(3):
        machine.step(1.6)
    for _ in range(11):
        machine.step(1.0)  # load is forgotten, patience not yet over
    step = machine.step(1.0, images=LIT)
    assert (step.profile, step.reason) == ("full", "something new")


def test_an_observation_that_comes_late_leaves_less_time() -> None:
    machine = Machine()
    assert machine.step(age=15).profile == "keep50"
    assert machine.step(age=100).reason == "nothing fits"


def test_only_what_is_allowed_is_chosen_below_what_was_asked_for() -> None:
    machine = Machine(allowed=("full", "keep50"))
    for _ in range(4):
        last = machine.step(9)
    assert last.profile == "keep50"
    assert machine.step(9, asked="keep25").profile == "keep25", "the client's own word"


@pytest.mark.parametrize("deadline", [0, -1])
def test_a_deadline_lies_ahead(deadline: int) -> None:
    with pytest.raises(ServeError, match="above 0"):
        Machine(deadline)


@given(
    steps=st.lists(
        st.tuples(st.floats(0.5, 20), st.integers(0, 60), st.sampled_from(ALL)), min_size=1, max_size=60
    ),
    allowed=st.sets(st.sampled_from(ALL)),
)
def test_whatever_the_load_it_keeps_to_its_rules(
    steps: list[tuple[float, int, str]], allowed: set[str]
) -> None:
    machine = Machine(allowed=tuple(allowed))
    chosen = [(asked, age, machine.step(load, asked=asked, age=age)) for load, age, asked in steps]
    for asked, age, step in chosen:
        assert step.profile == asked or (step.profile in allowed and IDLE[step.profile] < IDLE[asked])
        if step.reason != "nothing fits":
            assert age + step.predicted_ns <= step.deadline_ns
    for (_, _, before), (asked, _, after) in pairwise(chosen):
        kept = before.profile if before.profile == asked or before.profile in allowed else asked
        if IDLE[kept] <= IDLE[asked]:
            assert after.is_switch == (after.profile != kept)
