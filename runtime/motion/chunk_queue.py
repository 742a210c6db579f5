"""Which action is wanted now, out of the chunks that arrived: the newest, a mean of all, or a smooth seam.

The robot goes on while the model thinks. What a chunk has for times already past, by the measured age of its
observation, is skipped; behind its last row nothing is made up. Discrete axes are the newest chunk's, never a mean.

- ``latest``: the newest chunk.
- ``ensemble``: mean of all chunks that have an action for now, weighted by ``exp(-decay * i)``, ``i = 0`` the oldest:
  temporal ensembling of ACT (Zhao et al., 2304.13705, section IV.A; ``decay`` 0.01 in ``imitate_episodes.py`` of
  tonyzhaozh/act). Deviations: rotations and angles are averaged along the shortest turns from the newest, and time is
  the clock's, not a count of steps.
- ``blend``: the newest chunk plus what it differs from the motion before, which fades over ``seam_ns`` by the quintic
  that begins with that difference's place and velocity and ends with none: position and velocity are continuous.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from saccade.proto.axis_kind import AxisKind
from saccade.proto.errors import ActionRefusedError, LateChunkError, StaleObservationError
from saccade.runtime.motion.axis_geometry import AxisGeometry
from saccade.runtime.motion.motion_limits import MotionLimits
from saccade.runtime.motion.timed_chunk import TimedChunk

Array = NDArray[np.float64]
ACT_DECAY = 0.01
_INSTANT_NS = 1_000
"""Over which the velocity at a seam is measured."""


class QueueMode(str, Enum):
    """How chunks that overlap become one motion."""

    LATEST = "latest"
    ENSEMBLE = "ensemble"
    BLEND = "blend"


class ChunkQueue:
    """The chunks of one session.

    Args:
        limits: Kinds of the axes, and the length of a control step.
        mode: How chunks that overlap become one motion.
        decay: By how much each newer chunk weighs less in ``ensemble``, at least 0.
        seam_ns: How long a seam of ``blend`` lasts, nanoseconds; None = one control step.
    """

    def __init__(
        self,
        limits: MotionLimits,
        mode: QueueMode = QueueMode.LATEST,
        *,
        decay: float = ACT_DECAY,
        seam_ns: int | None = None,
    ) -> None:
        self._limits, self._mode, self._decay = limits, mode, decay
        self._geometry = AxisGeometry(limits)
        self._period_ns = round(limits.period_s * 1e9)
        self._seam_ns = self._period_ns if seam_ns is None else seam_ns
        self._delta = np.array(limits.is_delta, bool)
        self._discrete = limits.is_kind(AxisKind.DISCRETE)
        self._chunks: list[TimedChunk] = []
        self._fade: Callable[[int], Array] | None = None

    def add(self, actions: NDArray[np.float32], captured_ns: int, now_ns: int) -> None:
        """Take a chunk that arrived; an older one than the newest counts in ``ensemble`` only.

        Args:
            actions: float32 ``(chunk, dim)``, physical units.
            captured_ns: When its observation was captured, monotonic nanoseconds.
            now_ns: When it arrived, on that clock.

        Raises:
            ActionRefusedError: It has another width or no row, or a number is not finite: none of it is used.
            StaleObservationError: It was captured after it arrived: the times are of two clocks.
            LateChunkError: All of it is in the past.
        """
        actions = np.array(actions, np.float32)
        if actions.ndim != 2 or actions.shape[1] != self._limits.dim or not len(actions):
            raise ActionRefusedError(
                f"expected a chunk of rows of {self._limits.dim} numbers, found shape {list(actions.shape)}: the "
                "whole chunk is refused."
            )
        if not np.isfinite(actions).all():
            raise ActionRefusedError(
                "expected finite actions, found NaN or infinity: the whole chunk is refused."
            )
        if captured_ns > now_ns:
            raise StaleObservationError(
                f"expected a chunk of an observation captured before now, found {(captured_ns - now_ns) / 1e6:.1f} ms "
                "later: take both times from one monotonic clock."
            )
        chunk = TimedChunk(actions, captured_ns, self._period_ns)
        if not chunk.is_valid(now_ns):
            raise LateChunkError(
                f"expected a chunk with actions for now, found one that ended {(now_ns - chunk.expires_ns) / 1e6:.1f} "
                "ms ago: hold the arm and send a newer observation."
            )
        self._chunks = [old for old in self._chunks if old.is_valid(now_ns)]
        is_newest = not self._chunks or captured_ns >= self._chunks[-1].captured_ns
        if is_newest and self._mode is QueueMode.BLEND:
            self._fade = self._seam(chunk, now_ns) if self._chunks else None
        if is_newest and self._mode is not QueueMode.ENSEMBLE:
            self._chunks = [chunk]
        elif is_newest or self._mode is QueueMode.ENSEMBLE:
            self._chunks = sorted([*self._chunks, chunk], key=lambda each: each.captured_ns)

    def clear(self) -> None:
        """Forget all chunks: an episode or a session begins, or one of them was refused."""
        self._chunks, self._fade = [], None

    def wanted(self, now_ns: int, step_ns: int) -> NDArray[np.float32] | None:
        """Return the command for now, float32 ``(dim,)``; None where no chunk has one.

        Args:
            now_ns: The time, monotonic nanoseconds.
            step_ns: Nanoseconds that a delta is for: it is that share of a control step's.
        """
        valid = [chunk for chunk in self._chunks if chunk.is_valid(now_ns)]
        if not valid:
            return None
        command = self._at(valid, now_ns)
        return np.where(self._delta, command * (step_ns / self._period_ns), command).astype(np.float32)

    def _at(self, chunks: list[TimedChunk], now_ns: int) -> Array:
        commands = [chunk.at(now_ns, self._limits, self._geometry) for chunk in chunks]
        newest = commands[-1]
        if self._mode is QueueMode.BLEND and self._fade is not None:
            return self._moved(newest, self._fade(now_ns))
        if self._mode is QueueMode.ENSEMBLE and len(commands) > 1:
            weights = np.exp(-self._decay * np.arange(len(commands)))
            gaps = np.stack([self._gap(newest, command) for command in commands])
            return self._moved(newest, weights @ gaps / weights.sum())
        return newest

    def _gap(self, start: Array, end: Array) -> Array:
        """Return what one command differs from another by; for deltas the numbers', for places the way."""
        gap = np.where(self._delta, end - start, self._geometry.way(start, end))
        return np.where(self._discrete, 0, gap)

    def _moved(self, start: Array, gap: Array) -> Array:
        """Return a command that differs from another by ``gap``."""
        places = self._geometry.along(start, gap)
        return np.where(self._discrete, start, np.where(self._delta, start + gap, places))

    def _seam(self, new: TimedChunk, now_ns: int) -> Callable[[int], Array]:
        """Return the difference from the new chunk that is left at a time: all now, none when the seam is over."""
        old, seam_s, delta = list(self._chunks), self._seam_ns / 1e9, self._delta
        now, soon = (
            self._gap(new.at(time_ns, self._limits, self._geometry), self._at(old, time_ns))
            for time_ns in (now_ns, now_ns + _INSTANT_NS)
        )
        # A delta is a velocity already; for it the difference alone has to be continuous.
        rate = np.where(delta, 0, (soon - now) / (_INSTANT_NS / 1e9))

        def left(time_ns: int) -> Array:
            u = min(max((time_ns - now_ns) / self._seam_ns, 0.0), 1.0) if self._seam_ns else 1.0
            place = 1 - u**3 * (10 - u * (15 - 6 * u))
            velocity = u - u**3 * (6 - u * (8 - 3 * u))
            return now * place + rate * (seam_s * velocity)

        return left
