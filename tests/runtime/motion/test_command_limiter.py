"""What comes out never breaks a limit, whatever comes in: judged by divided differences of the float32 commands."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from saccade.proto.axis_kind import AxisKind
from saccade.proto.errors import InputError, ProprioError, TensorError
from saccade.runtime.motion.command_limiter import CommandLimiter, SentCommand
from saccade.runtime.motion.motion_limits import MotionLimits
from tests.runtime.motion.divided_differences import difference
from tests.runtime.motion.limits_samples import limits_of

MS = 1_000_000
TICK = 10 * MS
HOSTILE = np.array(
    [np.nan, inf, -inf, 1e-45, -1e-40, 0.0, -0.0, 1e30, 3.4e38, 1.0, -1.0, 0.7, -0.3], np.float32
)
JUMPS_NS = np.array(
    [TICK] * 6 + [TICK // 3, TICK // 2, 3 * TICK // 2, 3 * TICK, 31 * TICK, 10**12, 0, -TICK, -(10**12)]
)


def limiter(limits: MotionLimits, **options: bool) -> CommandLimiter:
    return CommandLimiter(limits, min_step_ns=TICK // 2, max_step_ns=3 * TICK, **options)


def assert_within(limits: MotionLimits, sent: list[SentCommand], ways: np.ndarray) -> None:  # type: ignore[type-arg]
    """Check one run from its beginning; ``ways`` are the places that the commands add up to, ``(commands, axes)``."""
    steps = [command.step_ns / 1e9 for command in sent[1:]]
    # The robot stood still before.
    places, steps_s = np.concatenate([ways[:1], ways[:1], ways]), np.array([1.0, 1.0, *steps])
    for order, word in enumerate(("velocity", "acceleration", "jerk"), 1):
        worst = np.abs(difference(order, places, steps_s)).max(0)
        assert (worst <= getattr(limits, word)).all(), (word, worst)


def hostile_run(limits: MotionLimits, commands: int, seed: int) -> list[list[SentCommand]]:
    """Drive with jumps, non-finite numbers, clocks that jump, refusals, new sessions; one list for each of these."""
    rng = np.random.default_rng(seed)
    box, runs, now, goal = limiter(limits), [], 0, np.zeros(limits.dim)
    while sum(map(len, runs)) * limits.dim < commands:
        box.reset()
        sent = [box.begin(rng.uniform(-1.1, 1.1, limits.dim), now)]
        for _ in range(rng.integers(5, 60)):
            if rng.random() < 0.2:
                goal = rng.uniform(-1.8, 1.8, limits.dim).astype(np.float32)
            wish = goal if len(sent) > 3 and rng.random() < 0.9 else rng.uniform(-1, 1, limits.dim)
            if rng.random() < 0.1:
                wish = np.where(rng.random(limits.dim) < 2 / limits.dim, rng.choice(HOSTILE), wish)
            now += int(rng.choice(JUMPS_NS))
            command = box.limit(None if rng.random() < 0.05 else wish, now)
            if command.is_new:
                sent.append(command)
        runs.append(sent)
    return runs


@pytest.mark.parametrize(
    "limits",
    [
        limits_of(100),
        limits_of(100, jerk=inf),
        limits_of(100, acceleration=inf, jerk=inf),
        limits_of(100, velocity=30.0, acceleration=200.0, jerk=2e4),
        limits_of(100, acceleration=50.0, jerk=80.0),
    ],
    ids=["all", "no jerk", "speed alone", "fast", "jerk leads"],
)
def test_no_command_breaks_a_limit(limits: MotionLimits) -> None:
    """100,000 commands in the five runs; benchmarks/motion_limits.py sends millions."""
    runs = hostile_run(limits, 20_000, seed=0)
    assert len(runs) > 3
    for sent in runs:
        values = np.stack([command.values for command in sent])
        assert values.dtype == np.float32
        assert_within(limits, sent, values)
        begun = values[0]
        assert (values >= np.minimum(limits.low, begun)).all() and (
            values <= np.maximum(limits.high, begun)
        ).all()


@settings(max_examples=8)
@given(st.integers(0, 2**32), st.sampled_from([AxisKind.AXIS_ANGLE, AxisKind.ROLL_PITCH_YAW]), st.booleans())
def test_a_rotation_is_limited_as_one(seed: int, kind: AxisKind, is_delta: bool) -> None:
    rng = np.random.default_rng(seed)
    limits = limits_of(3, kind, velocity=2.0, acceleration=20.0, jerk=800.0, is_delta=is_delta)
    box, now = limiter(limits), 0
    sent = [box.begin(rng.uniform(-3, 3, 3), now)]
    for _ in range(20):
        now += int(rng.choice([TICK, TICK // 2, 2 * TICK]))
        wish = (
            rng.uniform(-0.02, 0.02, 3) if is_delta else rng.choice([-3.1, 3.1, 0.5, rng.uniform(-3, 3)], 3)
        )
        sent.append(box.limit(wish, now))
    read = (
        Rotation.from_rotvec if kind is AxisKind.AXIS_ANGLE else lambda rpy: Rotation.from_euler("xyz", rpy)
    )
    turned = [read(command.values.astype(np.float64)) for command in sent]
    turns = [after if is_delta else before.inv() * after for before, after in pairwise(turned)]
    # Angular velocities in the body's frame; what they add up to has the differences that are limited.
    ways = np.concatenate([[np.zeros(3)], np.cumsum([turn.as_rotvec() for turn in turns], axis=0)])
    steps_s = np.array([1.0, 1.0, *(command.step_ns / 1e9 for command in sent[1:])])
    places = np.concatenate([ways[:1], ways[:1], ways])
    for order, most in ((1, 2.0), (2, 20.0), (3, 800.0)):
        assert np.linalg.norm(difference(order, places, steps_s).astype(float), axis=-1).max() <= most


def test_a_clamped_rotation_keeps_its_axis() -> None:
    box = limiter(limits_of(3, AxisKind.AXIS_ANGLE, acceleration=inf, jerk=inf))
    box.begin(np.zeros(3), 0)
    axis = np.array([1.0, 2, 2]) / 3
    sent = box.limit(axis * 2, TICK)
    np.testing.assert_allclose(sent.values / np.linalg.norm(sent.values), axis, atol=1e-6)
    assert 0.0085 / np.sqrt(3) < np.linalg.norm(sent.values) <= 0.01


def test_an_angle_goes_the_short_way_round_and_a_limited_one_stays_inside() -> None:
    box = limiter(limits_of(1, AxisKind.ANGLE))
    box.begin(np.array([3.1]), 0)
    turned = [float(box.limit(np.array([-3.1]), index * TICK).values[0]) for index in range(1, 60)]
    assert turned[-1] == np.float32(-3.1) and min(np.abs(turned)) >= np.float32(3.1)
    bounded = limits_of(1, AxisKind.ANGLE, velocity=50.0, acceleration=inf, jerk=inf)
    object.__setattr__(bounded, "low", (0.0,))
    object.__setattr__(bounded, "high", (5.0,))
    box = limiter(bounded)
    box.begin(np.array([0.1]), 0)
    assert box.limit(np.array([0.2 - 2 * np.pi]), TICK).values[0] == pytest.approx(0.2)


def test_a_motion_within_the_limits_passes_bit_for_bit() -> None:
    box = limiter(limits_of(1))
    box.begin(np.zeros(1), 0)
    for index in range(1, 300):
        now = index * TICK + (index * 791_900) % (TICK // 5)
        wish = np.array([0.3 * (1 - np.cos(now * 1.5e-9))], np.float32)  # at most 0.45/s, 0.68/s2, 1/s3
        sent = box.limit(wish, now)
        assert sent.values[0] == wish[0] and not sent.clamped.any() and not sent.is_refused


def test_a_far_goal_is_reached_about_as_fast_as_can_be_and_never_passed() -> None:
    """The quickest jerk-limited move over d: d / V + V / A + A / J."""
    box = limiter(limits_of(1))
    box.begin(np.array([-0.9]), 0)
    path = [float(box.limit(np.array([1.0]), index * TICK).values[0]) for index in range(1, 240)]
    assert path[-1] == 1 and max(path) == 1
    assert np.flatnonzero(np.array(path) > 0.9999)[0] * 0.01 <= (1.9 + 1 / 5 + 5 / 100) * 1.05


def test_after_a_refusal_the_next_command_cannot_jump() -> None:
    box = limiter(limits_of(1))
    places = [box.begin(np.zeros(1), 0)]
    for index in range(1, 60):
        wish = inf if 20 <= index < 30 else 0.9
        places.append(box.limit(np.array([wish]), index * TICK))
        assert places[-1].is_refused == (wish == inf)
        assert places[-1].clamped.any() == (wish != inf)
    assert_within(limits_of(1), places, np.stack([sent.values for sent in places]))


def test_it_refuses_instead_of_clamping_when_told() -> None:
    box = limiter(limits_of(2), refuses=True)
    box.begin(np.zeros(2), 0)
    sent = box.limit(np.array([0.5, 0.0]), TICK)
    assert sent.is_refused and not sent.values.any() and not sent.clamped.any()
    assert not box.limit(np.zeros(2), 2 * TICK).is_refused


def test_odd_ticks() -> None:
    box = limiter(limits_of(1))
    box.begin(np.zeros(1), 0)
    for index in range(1, 40):
        moving = box.limit(np.array([0.9]), index * TICK)
    soon = box.limit(np.array([0.9]), 39 * TICK + 1)
    assert not soon.is_new and soon.values == moving.values
    back = box.limit(np.array([0.9]), -(10**15))
    assert back.step_ns == TICK // 2 and 0 < back.values[0] - moving.values[0] <= 0.005
    late = box.limit(np.array([0.9]), -(10**15) + 2 * 10**9)
    assert late.step_ns == 2 * 10**9 and late.values == back.values
    assert box.limit(np.array([0.9]), box.sent_ns + TICK).values - late.values < 1e-4  # it starts from rest


def test_deltas_move_by_what_is_sent_and_run_out() -> None:
    box = limiter(limits_of(1, is_delta=True))
    sent = [box.begin(np.array([np.nan]), 0)]
    sent += [box.limit(np.array([0.009]) if index < 50 else None, index * TICK) for index in range(1, 80)]
    moved = np.cumsum(np.stack([command.values for command in sent]).astype(np.float64), axis=0)
    assert sent[45].values[0] == np.float32(0.009) and sent[-1].values[0] == pytest.approx(0, abs=1e-9)
    assert_within(limits_of(1, is_delta=True), sent, moved)


def test_a_discrete_axis_jumps_and_keeps_its_positions() -> None:
    box = limiter(limits_of(1, AxisKind.DISCRETE, velocity=inf, acceleration=inf, jerk=inf, low=0.0))
    assert box.begin(np.array([1.2]), 0).values == 1
    for wish, given_out in ((0.0, 0.0), (1.3, 1.0), (-0.2, 0.0)):
        assert box.limit(np.array([wish]), box.sent_ns + TICK).values == np.float32(given_out)
    assert box.limit(None, box.sent_ns + TICK).values == 0


@pytest.mark.parametrize("pose", [[np.nan], [inf], [1.3], [-1e30], [0.0, 0.0]])
def test_it_begins_only_from_a_pose_that_can_be(pose: list[float]) -> None:
    with pytest.raises(ProprioError, match="expected a measured pose"):
        limiter(limits_of(1)).begin(np.array(pose), 0)


def test_a_pose_a_little_outside_is_ramped_in_and_never_further_out() -> None:
    box = limiter(limits_of(1))
    path = [float(box.begin(np.array([1.15]), 0).values[0])]
    path += [float(box.limit(np.array([1.5]), index * TICK).values[0]) for index in range(1, 20)]
    assert path[0] == np.float32(1.15) and max(path) == path[0]
    path += [float(box.limit(np.array([0.5]), index * TICK).values[0]) for index in range(20, 130)]
    assert path[-1] == 0.5


def test_misuse_is_told() -> None:
    box = limiter(limits_of(1))
    with pytest.raises(ProprioError, match="before the first command"):
        box.limit(np.zeros(1), 0)
    box.begin(np.zeros(1), 0)
    with pytest.raises(TensorError, match="expected a command of 1 numbers"):
        box.limit(np.zeros(2), TICK)
    with pytest.raises(InputError, match="min_step_ns"):
        CommandLimiter(limits_of(1), min_step_ns=0, max_step_ns=1)
