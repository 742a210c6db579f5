"""When the next tick is due: on a fixed schedule, so that one late tick makes no other late."""

from __future__ import annotations

from saccade.runtime.clock import Clock, monotonic_ns


class Pace:
    """A schedule of ticks. What was missed is left out and counted, never caught up with.

    Args:
        period_ns: Nanoseconds from tick to tick.
        clock: Returns monotonic nanoseconds.

    Attributes:
        missed: How many ticks were left out since the schedule began.
    """

    def __init__(self, period_ns: int, clock: Clock = monotonic_ns) -> None:
        self._period_ns, self._clock = period_ns, clock
        self.missed = 0
        self._next_ns = clock()

    def restart(self) -> None:
        """Begin the schedule anew, now; ticks that were not wanted meanwhile are not missed."""
        self._next_ns = self._clock()

    def wait_s(self) -> float:
        """Move on to the next tick and return how long to wait for it, seconds, at least 0."""
        now_ns = self._clock()
        self._next_ns += self._period_ns
        if now_ns > self._next_ns:
            left_out = (now_ns - self._next_ns) // self._period_ns
            self.missed += left_out
            self._next_ns += left_out * self._period_ns
        return max(0, self._next_ns - now_ns) / 1e9
