"""What a robot's control loop ticks: chunks in at the model's rate, limited commands out at the robot's.

``add`` takes a chunk whenever one arrives; ``tick`` gives the command of one moment, a hundred times a second.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import ActionRefusedError, InputError, StoppedError
from saccade.runtime.motion.chunk_queue import ACT_DECAY, ChunkQueue, QueueMode
from saccade.runtime.motion.command_limiter import CommandLimiter
from saccade.runtime.motion.hold import MotionState, Watchdog
from saccade.runtime.motion.motion_limits import MotionLimits
from saccade.runtime.motion.owed_way import OwedWay

_LATE_TICKS = 3
"""A tick later than so many periods finds the robot at rest where the last command left it."""


@dataclass(frozen=True)
class Command:
    """What the robot gets at one tick.

    Args:
        values: float32 ``(dim,)``, physical units, within the limits; a delta counts from the command before.
        state: Whether the robot follows actions, holds, or is latched.
        clamped: bool ``(dim,)``: which axes were moved to keep a limit.
        is_refused: Whether what was wanted was refused, and the chunks with it.
        is_new: False where the tick came too soon after the last: it need not be sent.
        step_ns: Nanoseconds since the command before, as they were counted.
    """

    values: NDArray[np.float32]
    state: MotionState
    clamped: NDArray[np.bool_]
    is_refused: bool
    is_new: bool
    step_ns: int


class MotionController:
    """One robot's motion. Reads no clock and starts no thread: ``add`` and ``tick`` belong in one thread, or in a lock.

    Args:
        limits: Limits of each axis.
        tick_hz: How often ``tick`` is called, per second.
        mode: How chunks that overlap become one motion.
        refuses: Whether a command that breaks a limit is refused, with all chunks, instead of clamped.
        watchdog_ns: How long there may be no action before the robot is latched; None = three control steps, at least
            100 and at most 200 ms.
        decay: By how much each newer chunk weighs less in the mode ``ensemble``.
        seam_ns: How long a seam of the mode ``blend`` lasts, nanoseconds; None = one control step.

    Raises:
        InputError: ``tick_hz`` is not above 0, or float32 is too coarse for such limits at that rate.
    """

    def __init__(
        self,
        limits: MotionLimits,
        *,
        tick_hz: float,
        mode: QueueMode = QueueMode.LATEST,
        refuses: bool = False,
        watchdog_ns: int | None = None,
        decay: float = ACT_DECAY,
        seam_ns: int | None = None,
    ) -> None:
        if not 0 < tick_hz < 1e6:
            raise InputError(f"expected tick_hz above 0 and below a million, found {tick_hz}.")
        tick_ns = round(1e9 / tick_hz)
        self._tick_ns = tick_ns
        self._limiter = CommandLimiter(
            limits, min_step_ns=(tick_ns + 1) // 2, max_step_ns=_LATE_TICKS * tick_ns, refuses=refuses
        )
        self._queue = ChunkQueue(limits, mode, decay=decay, seam_ns=seam_ns)
        if watchdog_ns is None:
            watchdog_ns = round(1e9 * min(max(3 * limits.period_s, 0.1), 0.2))
        self._watchdog = Watchdog(watchdog_ns)
        self._dim = limits.dim
        self._owed = OwedWay(
            np.array(limits.is_delta, bool), round(limits.period_s * 1e9), np.array(limits.velocity)
        )
        self._newest_ns = 0
        self.counters: Counter[str] = Counter()
        """``commands``, ``chunks``, ``refused`` commands and chunks, ``latched``, and ``clamped.<axis>``."""
        self._names = limits.names

    @property
    def state(self) -> MotionState:
        """What the robot is doing."""
        return self._watchdog.state

    def add(self, actions: NDArray[np.float32], captured_ns: int, now_ns: int) -> None:
        """Take a chunk that arrived, all of it or nothing.

        Args:
            actions: float32 ``(chunk, dim)``, physical units.
            captured_ns: When its observation was captured, monotonic nanoseconds.
            now_ns: When it arrived, on that clock.

        Raises:
            StoppedError: The robot is latched.
            ActionRefusedError: A number is not finite or far outside of its limits, or the width is another one.
            StaleObservationError: It was captured after it arrived.
            LateChunkError: All of it is in the past.
        """
        if self.state is MotionState.LATCHED:
            raise StoppedError(
                "expected a robot that is not latched, found it stopped for want of actions: find out why, then reset."
            )
        try:
            rows = np.array(actions, np.float32)
            if rows.ndim == 2 and rows.shape[1] == self._dim and not self._limiter.is_sane(rows):
                raise ActionRefusedError(
                    "expected actions near their limits, found one that is not finite or further outside than they "
                    "are apart: the whole chunk is refused."
                )
            self._queue.add(rows, captured_ns, now_ns)
            if captured_ns >= self._newest_ns:
                self._newest_ns = captured_ns
                self._owed.owe(rows, captured_ns, now_ns)
        except ActionRefusedError:
            self.counters["refused.chunks"] += 1
            raise
        self.counters["chunks"] += 1

    def tick(self, now_ns: int, measured: NDArray[np.floating[Any]] | None = None) -> Command:
        """Return what the robot gets now; the first command after a reset is the pose that it stands in.

        Args:
            now_ns: Monotonic nanoseconds.
            measured: float ``(dim,)``: the robot's pose, see
                :meth:`saccade.runtime.motion.command_limiter.CommandLimiter.begin`; only the first tick after a reset
                reads it.

        Raises:
            ProprioError: The first tick has no measured pose, or one that is not finite or far outside of the limits.
        """
        if not self._limiter.has_begun:
            pose = np.full(self._dim, np.nan) if measured is None else measured
            sent = self._limiter.begin(pose, now_ns)
            self._owed.note(np.zeros(self._dim, np.float32), now_ns)
            state = self.state
        else:
            step_ns = max(now_ns - self._limiter.sent_ns, 0)
            wanted = self._wanted(now_ns, step_ns)
            state = self._watchdog.update(now_ns, has_action=wanted is not None)
            sent = self._limiter.limit(wanted if state is MotionState.MOVING else None, now_ns)
            self._owed.note(sent.values, now_ns)
            if sent.is_refused:
                self._drop()
        self._count(sent.is_refused, sent.clamped, state)
        return Command(sent.values, state, sent.clamped, sent.is_refused, sent.is_new, sent.step_ns)

    @property
    def has_begun(self) -> bool:
        """Whether there is a last command to go on from; False until the first tick after a reset."""
        return self._limiter.has_begun

    @property
    def stands(self) -> bool:
        """Whether the robot was told to stand still, or nothing yet."""
        return self._limiter.stands

    def hold(self) -> None:
        """Drop all chunks: the robot slows down and holds until another chunk comes; that wait is not counted."""
        self._drop()
        self._watchdog.rest()

    def stop(self) -> None:
        """Latch: from the next tick on the robot slows down and stays, until a reset. Not a safety-rated stop."""
        self._drop()
        self._watchdog.latch()

    def reset(self) -> None:
        """Begin an episode or a session: forget chunks, last command and latch; the next tick needs a measured pose."""
        self._drop()
        self._owed.reset()
        self._newest_ns = 0
        self._limiter.reset()
        self._watchdog.reset()

    def _wanted(self, now_ns: int, step_ns: int) -> NDArray[np.float32] | None:
        """Return the action for now with what it counts on; None where no chunk has one."""
        wanted = self._queue.wanted(now_ns, step_ns)
        return None if wanted is None else (wanted + self._owed.take(step_ns)).astype(np.float32)

    def _drop(self) -> None:
        self._queue.clear()
        self._owed.clear()

    def _count(self, is_refused: bool, clamped: NDArray[np.bool_], state: MotionState) -> None:
        self.counters["commands"] += 1
        self.counters["refused.commands"] += is_refused
        self.counters["latched"] += state is MotionState.LATCHED
        for index in np.flatnonzero(clamped):
            self.counters[f"clamped.{self._names[index]}"] += 1
