"""With nothing to do the robot comes to a standstill; after too long it is latched there until somebody resets it."""

from __future__ import annotations

from enum import Enum


class MotionState(str, Enum):
    """What the robot is doing: following actions, holding because there are none, or latched until a reset."""

    MOVING = "moving"
    HOLDING = "holding"
    LATCHED = "latched"


class Watchdog:
    """Counts the time without an action.

    Args:
        limit_ns: After how many nanoseconds without an action it latches.
    """

    def __init__(self, limit_ns: int) -> None:
        self._limit_ns = limit_ns
        self.reset()

    def reset(self) -> None:
        """Release the latch and count anew; the wait for a session's first action does not count."""
        self.state = MotionState.HOLDING
        self._idle_ns = 0
        self._last_ns: int | None = None

    def rest(self) -> None:
        """Hold without counting the time: nothing is wanted until the next action, unless it is latched."""
        if self.state is not MotionState.LATCHED:
            self.reset()

    def latch(self) -> None:
        """Latch at once."""
        self.state = MotionState.LATCHED

    def update(self, now_ns: int, *, has_action: bool) -> MotionState:
        """Return what to do now.

        Args:
            now_ns: Monotonic nanoseconds; a clock that goes back counts nothing.
            has_action: Whether there is an action for now.
        """
        if self.state is MotionState.LATCHED:
            return self.state
        if has_action:
            self.state, self._idle_ns, self._last_ns = MotionState.MOVING, 0, now_ns
        elif self._last_ns is not None:
            self._idle_ns += max(0, now_ns - self._last_ns)
            self._last_ns = now_ns
            is_over = self._idle_ns > self._limit_ns
            self.state = MotionState.LATCHED if is_over else MotionState.HOLDING
        return self.state
