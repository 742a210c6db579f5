"""Notices that the machine slept: one monotonic clock of Linux goes on meanwhile, the other stands still."""

from __future__ import annotations

import time
from collections.abc import Callable

_LEAST_NS = 100_000_000
"""Less is the reading of two clocks one after the other by a process that was interrupted."""
_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def _asleep_ns() -> int:
    """Return for how long the machine has slept since it started, nanoseconds; 0 where the system does not say."""
    if _CLOCK is None:
        return 0
    return time.clock_gettime_ns(_CLOCK) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class SuspensionWatch:
    """Tells of each sleep once.

    Args:
        asleep_ns: Returns for how long the machine has slept in all, nanoseconds.
    """

    def __init__(self, asleep_ns: Callable[[], int] = _asleep_ns) -> None:
        self._asleep_ns = asleep_ns
        self._known_ns = asleep_ns()

    def slept_ns(self) -> int:
        """Return for how many nanoseconds the machine slept since this was asked last; 0 = it did not."""
        asleep_ns = self._asleep_ns()
        slept_ns = asleep_ns - self._known_ns
        if slept_ns < _LEAST_NS:
            return 0
        self._known_ns = asleep_ns
        return slept_ns
