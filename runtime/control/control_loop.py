"""The control loop on the robot's host: the last limiter before the motors, whatever becomes of network and daemon.

How it is used::

    limits = client.motion_limits()
    with client.open(limits_itself=True) as session, ControlLoop(session, arm, limits, tick_hz=100) as loop:
        loop.reset("put the red block in the purple zone")
        loop.run(until=task_is_done)
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

from saccade.proto.errors import InputError, StoppedError
from saccade.runtime.clock import Clock, monotonic_ns
from saccade.runtime.control.arm import Arm
from saccade.runtime.control.chunk_requests import ChunkRequests
from saccade.runtime.control.pace import Pace
from saccade.runtime.motion.chunk_queue import ACT_DECAY, QueueMode
from saccade.runtime.motion.hold import MotionState
from saccade.runtime.motion.motion_controller import Command, MotionController
from saccade.runtime.motion.motion_limits import MotionLimits
from saccade.runtime.observation import ActionChunk, Robot


class DrivenSession(Robot, Protocol):
    """A session whose episodes the loop begins: the client's, or the one in process."""

    def reset(self, instruction: str, **options: Any) -> Any:
        """Begin an episode.

        Args:
            instruction: What the arm shall do.
            options: What else the session takes.
        """


class ControlLoop:
    """Sends limited commands to an arm at its own rate, while chunks are asked for in the background.

    What goes wrong with daemon, network or cameras leaves the arm without actions: it comes to a standstill within its
    limits, and after the watchdog's time it is latched until a reset. A context manager; all but :meth:`stop` belongs
    in one thread.

    Args:
        session: The session, opened with ``limits_itself``.
        arm: The robot.
        limits: Limits of each axis, as :meth:`saccade.runtime.client.Client.motion_limits` returns them.
        tick_hz: Commands per second.
        mode: How chunks that overlap become one motion.
        refuses: Whether a command that breaks a limit is refused, with all chunks, instead of clamped.
        watchdog_ns: How long there may be no action before the robot is latched; None = three control steps, at least
            100 and at most 200 ms.
        decay: By how much each newer chunk weighs less in the mode ``ensemble``.
        seam_ns: How long a seam of the mode ``blend`` lasts, nanoseconds; None = one control step.
        clock: Returns monotonic nanoseconds, the same as those of the frames.

    Raises:
        InputError: The session was not opened with ``limits_itself``, or rate and limits do not go together.
    """

    def __init__(  # noqa: PLR0913 - all but four are options
        self,
        session: DrivenSession,
        arm: Arm,
        limits: MotionLimits,
        *,
        tick_hz: float,
        mode: QueueMode = QueueMode.LATEST,
        refuses: bool = False,
        watchdog_ns: int | None = None,
        decay: float = ACT_DECAY,
        seam_ns: int | None = None,
        clock: Clock = monotonic_ns,
    ) -> None:
        if not getattr(session, "limits_itself", True):
            raise InputError(
                "expected a session of client.open(limits_itself=True), found one whose chunks the daemon limits as if "
                "each were played from its first action on."
            )
        self._session, self._arm, self._clock = session, arm, clock
        self._motion = MotionController(
            limits,
            tick_hz=tick_hz,
            mode=mode,
            refuses=refuses,
            watchdog_ns=watchdog_ns,
            decay=decay,
            seam_ns=seam_ns,
        )
        self._lock = threading.Lock()
        self._pace = Pace(round(1e9 / tick_hz), clock)
        self._requests = ChunkRequests(session, arm.observe, self._take, self._fail)
        self._has_begun = self._is_stopping = False
        self._failure: Exception | None = None

    @property
    def state(self) -> MotionState:
        """Whether the arm follows actions, holds, or is latched."""
        return self._motion.state

    @property
    def failure(self) -> Exception | None:
        """What ended the asking for chunks, if anything did: a lost lease, a stop, an error of the robot's own code."""
        return self._failure

    @property
    def counters(self) -> Counter[str]:
        """What was counted: commands, chunks, clamps by axis, refusals, errors by code, ticks that were missed."""
        with self._lock:
            return self._motion.counters + self._requests.counters + Counter({"missed": self._pace.missed})

    def reset(self, instruction: str, **options: Any) -> Any:
        """Begin an episode; the arm comes to a standstill first, and its first command is the pose it is measured in.

        The only way to release the latch.

        Args:
            instruction: What the arm shall do.
            options: What else the session's ``reset`` takes: ``release_stop``, ``view_scores``.

        Returns:
            What the session's ``reset`` returns.

        Raises:
            SaccadeError: What the session's ``reset`` raises; then the arm stays where it is.
        """
        if self._has_begun:
            self.rest()
        with self._requests.paused():
            self._has_begun = False
            found = self._session.reset(instruction, **options)
            with self._lock:
                self._motion.reset()
            self._failure, self._is_stopping = None, False
        self._has_begun = True
        self._pace.restart()
        return found

    def tick(self) -> Command:
        """Send one command, and return it; for those who keep time themselves.

        Raises:
            ProprioError: In the first tick after a reset: the pose is not finite or far outside of the limits.
            Exception: What the arm raises.
        """
        with self._lock:
            if self._is_stopping:
                self._motion.stop()
            measured = None if self._motion.has_begun else self._arm.pose()
            command = self._motion.tick(self._clock(), measured)
        if command.is_new:
            self._arm.send(command.values)
        return command

    def run(self, until: Callable[[], bool]) -> MotionState:
        """Tick at the rate until something is so, the arm is latched, or no more chunks come; leave it standing still.

        Args:
            until: Asked before each tick.

        Returns:
            ``latched``, or ``holding`` if it ended as ``until`` says.

        Raises:
            SaccadeError: The lease was lost, the daemon was stopped, or the session is over.
            Exception: What the arm raises.
        """
        self._begin()
        while self._goes_on(until):
            self.tick()
            time.sleep(self._pace.wait_s())
        self.rest()
        return self._end()

    async def run_async(self, until: Callable[[], bool]) -> MotionState:
        """Do as :meth:`run` does, in an event loop: between two ticks others run.

        Args:
            until: Asked before each tick.

        Returns:
            ``latched``, or ``holding`` if it ended as ``until`` says.

        Raises:
            SaccadeError: The lease was lost, the daemon was stopped, or the session is over.
            Exception: What the arm raises.
        """
        self._begin()
        while self._goes_on(until):
            self.tick()
            await asyncio.sleep(self._pace.wait_s())
        self._hold()
        while not self._motion.stands:
            self.tick()
            await asyncio.sleep(self._pace.wait_s())
        return self._end()

    def rest(self) -> None:
        """Drop all chunks, ask for no more, and tick until the arm stands still; a reset or :meth:`run` goes on."""
        self._hold()
        while not self._motion.stands:
            self.tick()
            time.sleep(self._pace.wait_s())

    def stop(self) -> None:
        """Latch from the next tick on; may be called from any thread, and from a signal handler. Not safety-rated."""
        self._is_stopping = True

    def close(self) -> None:
        """Bring the arm to a standstill and end the thread."""
        try:
            if self._has_begun:
                self.rest()
        finally:
            self._requests.close()

    def __enter__(self) -> ControlLoop:
        self._requests.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _goes_on(self, until: Callable[[], bool]) -> bool:
        return self._failure is None and self.state is not MotionState.LATCHED and not until()

    def _end(self) -> MotionState:
        if self._failure is not None:
            raise self._failure
        return self.state

    def _begin(self) -> None:
        self._pace.restart()
        if self._has_begun and self._failure is None and self.state is not MotionState.LATCHED:
            self._requests.resume()

    def _hold(self) -> None:
        self._requests.pause()
        with self._lock:
            self._motion.hold()

    def _take(self, chunk: ActionChunk) -> None:
        with self._lock:
            if self._motion.state is MotionState.LATCHED:
                self._requests.pause()
                return
            self._motion.add(chunk.actions, chunk.valid_from_ns or chunk.captured_ns, self._clock())

    def _fail(self, error: Exception) -> None:
        """A stop latches the arm at once; whatever else ends the asking leaves it to hold."""
        with self._lock:
            if isinstance(error, StoppedError):
                self._motion.stop()
            else:
                self._motion.hold()
        self._failure = error
