"""Chunks of a policy that thinks slowly, on an arm that is a double integrator under a servo."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.proto.errors import ActionRefusedError, InputError, LateChunkError, ProprioError, StoppedError
from saccade.runtime.motion.chunk_queue import QueueMode
from saccade.runtime.motion.hold import MotionState
from saccade.runtime.motion.motion_controller import Command, MotionController
from tests.runtime.motion.divided_differences import difference
from tests.runtime.motion.limits_samples import limits_of

MS = 1_000_000
TICK = 10 * MS
LIMITS = limits_of(1)


def controller(mode: QueueMode = QueueMode.LATEST, **options: bool) -> MotionController:
    return MotionController(LIMITS, tick_hz=100, mode=mode, **options)


def rows(start_ns: int, wander: float = 0.0) -> np.ndarray:  # type: ignore[type-arg]
    """Eight rows along a slow sine, as a policy would answer an observation of that time."""
    times_s = start_ns / 1e9 + np.arange(8) * 0.1
    return (0.3 * np.sin(times_s) + wander)[:, None].astype(np.float32)


class Arm:
    """A unit mass that a critically damped servo pulls to the last command."""

    def __init__(self) -> None:
        self.place, self.speed = 0.0, 0.0

    def run(self, command: float, seconds: float = 0.01) -> None:
        for _ in range(20):
            force = 60.0**2 * (command - self.place) - 120.0 * self.speed
            self.speed += force * seconds / 20
            self.place += self.speed * seconds / 20


@pytest.mark.parametrize("mode", list(QueueMode))
def test_an_arm_follows_while_the_model_thinks(mode: QueueMode) -> None:
    motion, arm, sent = controller(mode), Arm(), list[Command]()
    rng = np.random.default_rng(0)
    for index in range(200):
        now = index * TICK
        if index % 20 == 15:  # captured 150 ms ago, and not quite what the last chunk said
            motion.add(rows(now - 150 * MS, rng.normal(0, 0.003)), now - 150 * MS, now)
        sent.append(motion.tick(now, np.array([arm.place])))
        arm.run(float(sent[-1].values[0]))
    assert abs(arm.place - 0.3 * np.sin(2.0)) < 0.02
    assert all(command.state is MotionState.MOVING for command in sent[15:])
    places = np.array([command.values for command in sent])
    for order, most in ((1, 1.0), (2, 5.0), (3, 100.0)):
        assert np.abs(difference(order, places, np.full(199, 0.01))).max() <= most
    assert motion.counters["chunks"] == 10 and motion.counters["commands"] == 200


def test_a_blended_seam_needs_less_clamping_than_a_jump() -> None:
    def clamped(mode: QueueMode) -> int:
        motion = MotionController(LIMITS, tick_hz=100, mode=mode, seam_ns=200 * MS)
        for index in range(80):
            if index % 20 == 0:
                motion.add(rows(index * TICK, 0.002 * (-1) ** (index // 20)), index * TICK, index * TICK)
            motion.tick(index * TICK, np.array([0.002]))
        return motion.counters["clamped.axis0"]

    assert clamped(QueueMode.BLEND) < clamped(QueueMode.LATEST)


def test_without_chunks_it_stops_within_the_limits_latches_and_needs_a_reset() -> None:
    motion = controller()
    motion.add(np.linspace(0, 0.35, 8, dtype=np.float32)[:, None], 0, 0)
    sent = [motion.tick(index * TICK, np.zeros(1)) for index in range(150)]
    states = [command.state for command in sent]
    assert states.index(MotionState.HOLDING, 1) == 80  # eight rows of 100 ms
    assert states.index(MotionState.LATCHED) == 100  # the watchdog's 200 ms after the last action, at tick 79
    places = np.array([command.values for command in sent])
    assert places[-1] == places[-20] and abs(places[-1][0] - 0.35) < 0.04  # the way to stop from 0.5/s
    for order, most in ((1, 1.0), (2, 5.0), (3, 100.0)):
        assert np.abs(difference(order, places, np.full(149, 0.01))).max() <= most
    with pytest.raises(StoppedError, match="then reset"):
        motion.add(rows(0), 1490 * MS, 1490 * MS)
    motion.reset()
    with pytest.raises(ProprioError):
        motion.tick(1500 * MS)
    assert motion.tick(1500 * MS, np.array([0.2])).values == np.float32(0.2)
    motion.add(rows(1510 * MS), 1510 * MS, 1510 * MS)
    assert motion.tick(1510 * MS).state is MotionState.MOVING


def test_a_bad_chunk_is_refused_whole_and_the_one_before_goes_on() -> None:
    motion = controller()
    motion.add(rows(0), 0, 0)
    for bad in (np.full((8, 1), np.nan), np.array([[0.0], [3.1]]), np.zeros((8, 2))):
        with pytest.raises(ActionRefusedError):
            motion.add(bad, 0, 0)
    with pytest.raises(LateChunkError):
        motion.add(rows(0), 0, 800 * MS)
    assert motion.counters["refused.chunks"] == 3 and motion.counters["chunks"] == 1
    motion.tick(0, np.zeros(1))
    assert motion.tick(TICK).state is MotionState.MOVING


def test_told_to_refuse_it_drops_the_chunks_and_slows_down() -> None:
    motion = controller(refuses=True)
    motion.tick(0, np.zeros(1))
    motion.add(np.full((8, 1), 0.9, np.float32), 0, 0)
    assert motion.tick(TICK).is_refused
    assert motion.tick(2 * TICK).state is MotionState.HOLDING
    assert motion.counters["refused.commands"] == 1


def test_a_stop_latches() -> None:
    motion = controller()
    motion.tick(0, np.zeros(1))
    motion.add(rows(0), 0, 0)
    motion.stop()
    assert motion.tick(TICK).state is MotionState.LATCHED


def test_deltas_need_no_pose_and_add_up() -> None:
    motion = MotionController(limits_of(1, is_delta=True), tick_hz=100)
    motion.add(np.full((8, 1), 0.02, np.float32), 0, 0)
    moved = sum(float(motion.tick(index * TICK).values[0]) for index in range(81))
    assert 0.14 < moved <= 0.16 + 1e-6  # 8 rows of 0.02, less what getting up to speed takes


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), 1e9])
def test_a_rate_must_be_one(rate: float) -> None:
    with pytest.raises(InputError, match="expected tick_hz"):
        MotionController(LIMITS, tick_hz=rate)
