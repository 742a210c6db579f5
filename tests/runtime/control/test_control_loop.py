"""A control loop on a real daemon, over both transports; the arm is a list of what it was sent."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from saccade.proto import errors
from saccade.proto.manifest import LimitsSpec, read_manifest, write_manifest
from saccade.runtime.client import Client
from saccade.runtime.clock import monotonic_ns
from saccade.runtime.control.arm import Frame
from saccade.runtime.control.control_loop import ControlLoop
from saccade.runtime.daemon import Daemon, DaemonConfig
from saccade.runtime.motion.chunk_queue import QueueMode
from saccade.runtime.motion.hold import MotionState
from saccade.runtime.motion.motion_controller import Command
from saccade.runtime.motion.motion_limits import MotionLimits
from saccade.runtime.motion.operator_limits import OperatorLimits
from saccade.sim.daemon_process import DaemonProcess
from tests.runtime.motion.divided_differences import difference
from tests.tiny_bundle import tiny_observation, write_tiny_bundle

INSTRUCTION = "push the red cube"
CELL = OperatorLimits(velocity=(0.08, None), acceleration=(0.8, None), jerk=(20.0, None))
HZ = 50.0
SECOND = 1_000_000_000


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A bundle whose chunks last 0.6 s, so that a busy machine answers in time."""
    bundle = write_tiny_bundle(tmp_path / "tiny")
    manifest = read_manifest(bundle)
    write_manifest(replace(manifest, action=replace(manifest.action, control_hz=5.0)), bundle)
    return bundle


class ListArm:
    """Sends into a list, and looks at noise."""

    def __init__(self, pose: tuple[float, float] = (0.0, 0.0)) -> None:
        self.sent: list[tuple[int, NDArray[np.float32]]] = []
        self._pose, self._seen = np.array(pose), 0
        self.before_look: Callable[[], None] = lambda: None

    def observe(self) -> Frame:
        self.before_look()
        self._seen += 1
        seen = tiny_observation(self._seen)
        return Frame(seen.images, seen.proprio, monotonic_ns())

    def pose(self) -> NDArray[np.float64]:
        return self._pose

    def send(self, command: NDArray[np.float32]) -> None:
        self.sent.append((monotonic_ns(), command))

    def moves(self, start: int = 0) -> bool:
        return bool((np.abs(self.first_axis[start:]) > 2e-4).any())

    def has(self, count: int) -> Callable[[], bool]:
        return lambda: len(self.sent) >= count

    @property
    def first_axis(self) -> NDArray[np.float64]:
        return np.array([command[0] for _, command in self.sent], np.float64)


class RecordingLoop(ControlLoop):
    """Keeps what it sent, with the times that its limiter counted."""

    def tick(self) -> Command:
        command = super().tick()
        self.commands = [*getattr(self, "commands", []), command]
        return command

    def check_limits(self, limits: MotionLimits) -> None:
        """No difference of what was sent is beyond a limit, however late the ticks came."""
        new = [command for command in self.commands if command.is_new]
        values = np.array([command.values for command in new], np.float64)[:, :1]
        places = np.cumsum(values, axis=0) if limits.is_delta[0] else values
        steps_s = np.array([command.step_ns / 1e9 for command in new[1:]])
        for order, word in enumerate(("velocity", "acceleration", "jerk"), 1):
            assert np.abs(difference(order, places, steps_s)).max() <= getattr(limits, word)[0]


@contextmanager
def driving(
    client: Client,
    arm: ListArm,
    *,
    mode: QueueMode = QueueMode.LATEST,
    max_age_ns: int = 0,
    watchdog_ns: int = 20 * SECOND,
) -> Iterator[RecordingLoop]:
    limits = client.motion_limits(CELL)
    with (
        client.open(limits_itself=True, max_age_ns=max_age_ns) as session,
        RecordingLoop(session, arm, limits, tick_hz=HZ, mode=mode, watchdog_ns=watchdog_ns) as loop,
    ):
        loop.reset(INSTRUCTION)
        yield loop


def never() -> bool:
    return False


@pytest.mark.parametrize("mode", list(QueueMode))
def test_it_moves_while_it_asks_and_leaves_the_arm_standing(client: Client, mode: QueueMode) -> None:
    arm, limits = ListArm(), client.motion_limits(CELL)
    with driving(client, arm, mode=mode) as loop:
        assert loop.run(lambda: arm.has(40)() and arm.moves()) is MotionState.HOLDING
        counters = loop.counters
    assert counters["chunks"] >= 1 and counters["commands"] >= 40
    deltas = arm.first_axis
    assert abs(deltas[-1]) < 1e-6, "it stands"
    loop.check_limits(limits)


def test_a_daemon_that_hangs_leaves_the_arm_at_rest_and_latched(daemon: Daemon, client: Client) -> None:
    arm = ListArm()
    engine = daemon.endpoint._engine_lock

    def hangs() -> bool:
        if not engine.locked() and arm.moves():
            engine.acquire()
        return False

    with driving(client, arm, max_age_ns=600_000_000, watchdog_ns=SECOND) as loop:
        try:
            assert loop.run(hangs) is MotionState.LATCHED
        finally:
            engine.release()
        assert abs(arm.first_axis[-1]) < 1e-6
        count = len(arm.sent)
        assert loop.run(never) is MotionState.LATCHED, "until a reset"
        loop.reset(INSTRUCTION)
        loop.run(lambda: arm.moves(count))
    assert abs(arm.first_axis[-1]) < 1e-6


def test_who_loses_the_lease_holds_and_is_told(daemon: Daemon, client: Client) -> None:
    arm = ListArm()
    limits = client.motion_limits(CELL)
    session = client.open(limits_itself=True)
    with ControlLoop(session, arm, limits, tick_hz=HZ, watchdog_ns=20 * SECOND) as loop:
        loop.reset(INSTRUCTION)
        loop.run(arm.moves)
        daemon.endpoint._lease.end(session._token)
        with pytest.raises(errors.NoSessionError):
            loop.run(never)
        assert isinstance(loop.failure, errors.NoSessionError)
        assert loop.counters["errors.session.none"] >= 1
    assert abs(arm.first_axis[-1]) < 1e-6


def test_a_stop_of_anyone_latches_until_a_reset_releases_it(daemon: Daemon, client: Client) -> None:
    arm = ListArm()
    with driving(client, arm) as loop:
        loop.run(arm.has(10))
        with Client(daemon.address) as somebody:
            somebody.stop("somebody came in")
        with pytest.raises(errors.StoppedError, match="somebody came in"):
            loop.run(never)
        assert loop.state is MotionState.LATCHED
        with pytest.raises(errors.StoppedError):
            loop.reset(INSTRUCTION)
        loop.reset(INSTRUCTION, release_stop=True)
        assert loop.run(arm.has(len(arm.sent) + 10)) is not MotionState.LATCHED


def test_the_loops_own_stop_comes_from_another_thread(client: Client) -> None:
    arm = ListArm()
    with driving(client, arm) as loop:
        loop.run(arm.has(10))
        timer = threading.Timer(0.1, loop.stop)
        timer.start()
        assert loop.run(never) is MotionState.LATCHED
        timer.join()
    assert abs(arm.first_axis[-1]) < 1e-6


def test_the_robots_own_errors_end_the_loop_with_the_arm_at_rest(client: Client) -> None:
    arm = ListArm()

    def unplugged() -> None:
        raise ZeroDivisionError("camera unplugged")

    with driving(client, arm) as loop:
        loop.run(arm.has(10))
        arm.before_look = unplugged
        with pytest.raises(ZeroDivisionError, match="camera unplugged"):
            loop.run(never)
    assert abs(arm.first_axis[-1]) < 1e-6


def test_other_tasks_run_between_the_ticks(client: Client) -> None:
    arm, seen = ListArm(), []

    async def both(loop: ControlLoop) -> MotionState:
        async def beside() -> None:
            while not arm.has(20)():
                seen.append(len(arm.sent))
                await asyncio.sleep(0.01)

        found, _ = await asyncio.gather(loop.run_async(arm.has(20)), beside())
        return found

    with driving(client, arm) as loop:
        assert asyncio.run(both(loop)) is not MotionState.LATCHED
    assert len(set(seen)) > 2 and abs(arm.first_axis[-1]) < 1e-6


def test_a_session_that_the_daemon_limits_is_not_driven(client: Client) -> None:
    limits = client.motion_limits()
    with (
        client.open() as session,
        pytest.raises(errors.InputError, match=r"client\.open\(limits_itself=True\)"),
    ):
        ControlLoop(session, ListArm(), limits, tick_hz=HZ)


@pytest.fixture
def placing(tiny: Path) -> Iterator[Client]:
    """The tiny bundle, whose numbers are places now: near 1 cm, the gripper open or closed."""
    manifest = read_manifest(tiny)
    limits = LimitsSpec((-0.5, 0.0), (0.5, 1.0), (0.04, 1.0), margin=(0.1, 0.0))
    action = replace(manifest.action, convention="absolute_ee")
    write_manifest(replace(manifest, action=action, limits=limits), tiny)
    with (
        Daemon(DaemonConfig(tiny, bind="127.0.0.1:0", threads=1, max_age_ns=0, limits=CELL)) as daemon,
        Client(daemon.address) as client,
    ):
        yield client


def test_it_ramps_from_where_the_arm_is_within_the_limits_of_daemon_and_cell(placing: Client) -> None:
    arm = ListArm(pose=(0.05, 1.0))
    limits = placing.motion_limits()
    assert (limits.velocity[0], limits.high[0]) == (0.08, 0.4)
    with (
        placing.open(limits_itself=True) as session,
        RecordingLoop(
            session, arm, limits, tick_hz=HZ, mode=QueueMode.BLEND, watchdog_ns=20 * SECOND
        ) as loop,
    ):
        loop.reset(INSTRUCTION)
        loop.run(lambda: arm.has(60)() and abs(arm.first_axis[-1] - 0.01) < 0.005)
    places = arm.first_axis
    assert places[0] == np.float32(0.05), "the first command is the measured pose"
    assert abs(places[-1] - 0.01) < 0.01, "then it comes to what the model wants"
    loop.check_limits(limits)


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not stopped there")
def test_a_stopped_daemon_process_leaves_the_arm_at_rest_and_latched(tiny: Path) -> None:
    arm = ListArm()
    with (
        DaemonProcess(tiny, threads=1) as daemon,
        Client(daemon.address) as client,
        driving(client, arm, max_age_ns=600_000_000, watchdog_ns=SECOND) as loop,
    ):
        limits = client.motion_limits(CELL)

        def stopped() -> bool:
            if arm.moves():
                os.kill(daemon.pid, signal.SIGSTOP)
            return False

        try:
            assert loop.run(stopped) is MotionState.LATCHED
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
        assert abs(arm.first_axis[-1]) < 1e-6
        loop.check_limits(limits)
        loop.reset(INSTRUCTION)
        assert loop.state is MotionState.HOLDING
