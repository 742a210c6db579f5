"""Whatever chunks come one after the other: what leaves follows on within every limit, or is refused."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from saccade.proto.axis_kind import AxisKind
from saccade.proto.errors import ActionRefusedError
from saccade.runtime.guards.seam_limiter import SeamLimiter, pose_columns
from saccade.runtime.motion import rotations
from tests.runtime.motion.divided_differences import difference
from tests.runtime.motion.limits_samples import limits_of

PERIOD_NS = 100_000_000
LIMITS = replace(limits_of(2, velocity=1.0, acceleration=4.0, jerk=80.0))
NOWHERE = np.zeros(0, np.float32)


class Robot:
    """Plays what it is sent, a number of actions of each chunk, and knows every command that it was sent."""

    def __init__(self, limiter: SeamLimiter, start: NDArray[np.float32]) -> None:
        self._limiter, self._start = limiter, start
        self.commands: list[NDArray[np.float32]] = []
        self._executed: int | None = None

    def offer(self, chunk: NDArray[np.float32], plays: int) -> bool:
        """Return whether the chunk left, whole or moved."""
        try:
            found = self._limiter.limit(
                chunk, proprio=self._start, seen_ns=0, executed=self._executed
            ).actions
        except ActionRefusedError:
            return False
        self._limiter.note(found, 0)
        self.commands += list(found[:plays])
        self._executed = plays
        return True


rows = st.lists(
    st.tuples(*[st.floats(-1.0, 1.0, width=32) | st.sampled_from([0.0, 1.0, -1.0, 1e-40])] * 2),
    min_size=4,
    max_size=4,
)


@settings(max_examples=20)
@given(st.lists(st.tuples(rows, st.integers(0, 4)), max_size=6), st.booleans())
def test_no_chunk_that_leaves_breaks_a_limit(
    offers: list[tuple[list[tuple[float, float]], int]], refuses: bool
) -> None:
    start = np.array([0.3, -0.2], np.float32)
    robot = Robot(SeamLimiter(LIMITS, refuses=refuses, pose_columns=(0, 1)), start)
    for chunk, plays in offers:
        robot.offer(np.array(chunk, np.float32), plays)
    places = np.array([start, start, start, *robot.commands], np.float64)
    steps_s = np.full(len(places) - 1, 0.1)
    for order, most in ((1, 1.0), (2, 4.0), (3, 80.0)):
        if len(places) > 3:
            found = np.abs(difference(order, places, steps_s)).max()
            assert found <= most * (1 + 1e-6) + 8 * 1.2e-7 / 0.1**order
    assert np.abs(places).max() <= 1


def ramp(start: float, step: float, count: int = 4) -> NDArray[np.float32]:
    return np.repeat(start + step * np.arange(1, count + 1, dtype=np.float32)[:, None], 2, axis=1)


def test_a_smooth_chunk_passes_as_it_is_a_jump_is_moved_and_a_seam_counts() -> None:
    limits = replace(LIMITS, acceleration=(inf, inf), jerk=(inf, inf))
    limiter = SeamLimiter(limits, pose_columns=(0, 1))
    start = np.zeros(2, np.float32)
    first = limiter.limit(ramp(0.0, 0.05), proprio=start, seen_ns=0)
    assert not first.moved.any() and (first.actions == ramp(0.0, 0.05)).all()
    limiter.note(first.actions, 1_000)
    far = ramp(0.1, 0.05) + np.float32([0.4, 0.0])
    second = limiter.limit(far, proprio=start, seen_ns=1_000 + 2 * PERIOD_NS)
    assert second.moved[:, 0].any() and not second.moved[:, 1].any()
    np.testing.assert_allclose(
        second.actions[0, 0], 0.1 + 0.1, atol=1e-6
    )  # two were played, and 1/s is the most


def test_a_chunk_can_be_refused_instead_and_the_one_before_still_counts() -> None:
    limiter = SeamLimiter(LIMITS, refuses=True, pose_columns=(0, 1))
    start = np.zeros(2, np.float32)
    with pytest.raises(
        ActionRefusedError, match=r"'axis0' at control step 0 .* limit of velocity, found 0\.9"
    ):
        limiter.limit(np.full((4, 2), 0.9, np.float32), proprio=start, seen_ns=0)
    assert not limiter.limit(ramp(0.0, 0.01), proprio=start, seen_ns=0).moved.any()


def test_without_a_measured_place_an_episode_may_begin_anywhere_but_goes_on_from_there() -> None:
    limiter = SeamLimiter(LIMITS, refuses=True)
    chunk = np.full((4, 2), 0.9, np.float32)
    limiter.note(limiter.limit(chunk, proprio=NOWHERE, seen_ns=0).actions, 0)
    with pytest.raises(ActionRefusedError):
        limiter.limit(-chunk, proprio=NOWHERE, seen_ns=2 * PERIOD_NS)
    limiter.reset()
    assert not limiter.limit(-chunk, proprio=NOWHERE, seen_ns=2 * PERIOD_NS).moved.any()


def test_deltas_are_held_to_speed_and_to_how_fast_it_changes() -> None:
    limits = limits_of(1, is_delta=True, velocity=1.0, acceleration=4.0, jerk=inf)
    limiter = SeamLimiter(limits)
    fast = np.full((4, 1), 0.09, np.float32)
    found = limiter.limit(fast, proprio=NOWHERE, seen_ns=0)
    ways = np.array([0.0, *found.actions[:, 0]])
    assert found.moved[0, 0] and np.abs(np.diff(ways)).max() <= 4.0 * 0.1**2 + 1e-6
    assert found.actions[-1, 0] > 0.05, "it speeds up as it may"


def test_a_rotation_is_held_to_the_length_of_its_turn() -> None:
    limits = limits_of(3, AxisKind.AXIS_ANGLE, velocity=1.0, acceleration=inf, jerk=inf)
    limiter = SeamLimiter(limits, refuses=True)
    still = np.tile(np.float32([3.1, 0.0, 0.0]), (2, 1))
    limiter.note(limiter.limit(still, proprio=NOWHERE, seen_ns=0).actions, 0)
    # The other side of the half turn is near, though every component jumps.
    wrapped = np.tile(np.float32([-3.1, 0.0, 0.0]), (2, 1))
    assert not limiter.limit(wrapped, proprio=NOWHERE, seen_ns=2 * PERIOD_NS).moved.any()
    # Each component alone is within 0.1 rad of a step, the turn is not.
    turn = rotations.times(
        rotations.from_vector(still[0].astype(np.float64)),
        rotations.from_vector(np.array([0.08, 0.08, 0.08])),
    )
    tilted = np.tile(rotations.to_vector(turn).astype(np.float32), (2, 1))
    with pytest.raises(ActionRefusedError, match="limit of velocity"):
        limiter.limit(tilted, proprio=NOWHERE, seen_ns=2 * PERIOD_NS)


def test_a_gripper_jumps() -> None:
    limiter = SeamLimiter(
        limits_of(1, AxisKind.DISCRETE, low=0, velocity=inf, acceleration=inf, jerk=inf), refuses=True
    )
    chunk = np.float32([[1.0], [0.0], [1.0], [0.0]])
    assert not limiter.limit(chunk, proprio=NOWHERE, seen_ns=0).moved.any()


def test_names_and_units_say_where_a_place_is_measured() -> None:
    limits = replace(limits_of(2), names=("x", "y"))
    assert pose_columns(limits, ("m", "m"), ("y", "t", "x"), ("m", "s", "m")) == (2, 0)
    assert pose_columns(limits, ("m", "m"), ("y", "x"), ("m", "mm")) == ()
    assert pose_columns(limits, ("m", "m"), ("x",), ("m",)) == ()
    mixed = replace(limits, kinds=(AxisKind.LINEAR, AxisKind.DISCRETE))
    assert pose_columns(mixed, ("m", "1"), ("x",), ("m",)) == (0, -1)
