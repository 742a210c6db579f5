"""How another host's monotonic clock differs from this one's, by round trips: minimum delay, drift, jumps.

Each round trip bounds the offset to half of itself on either side, whatever the two ways took. The shortest of a window
bounds it best (the clock filter of NTP, RFC 5905, section 10). Two bounds that do not meet mean that a clock jumped, or
that a machine slept while its clock stood still.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

_WINDOW_NS = 10_000_000_000
_WINDOWS = 12
_MOST_DRIFT = 500e-6
"""How fast two sound clocks part at most: the largest slew of a disciplined Linux clock."""
_DRIFT_SPAN_NS = 3 * _WINDOW_NS
"""How long is measured before a drift is told."""


@dataclass(frozen=True)
class ClockEstimate:
    """What is known of another clock.

    Args:
        offset_ns: The other clock minus this one's, nanoseconds.
        uncertainty_ns: The offset is right to so many nanoseconds.
        drift_ppm: How much faster the other clock runs, parts in a million; 0 until it can be told.
        steps: How often one of the clocks jumped, or one machine slept, since the measuring began.
    """

    offset_ns: int
    uncertainty_ns: int
    drift_ppm: float
    steps: int


@dataclass(frozen=True)
class _RoundTrip:
    at_ns: int
    offset_ns: int
    delay_ns: int

    def bound_ns(self, now_ns: int) -> int:
        """Return how far the offset of ``now_ns`` may be from this one."""
        return (self.delay_ns + 1) // 2 + round(abs(now_ns - self.at_ns) * _MOST_DRIFT)


class ClockOffset:
    """Measures one other clock. Not safe between threads."""

    def __init__(self) -> None:
        self._best: deque[_RoundTrip] = deque(maxlen=_WINDOWS)
        self._steps = 0

    def add(self, *, sent_ns: int, arrived_ns: int, replied_ns: int, received_ns: int) -> bool:
        """Take the four times of one round trip, and return whether a clock jumped.

        Args:
            sent_ns: When the request left, nanoseconds on this clock.
            arrived_ns: When it arrived, on the other.
            replied_ns: When the reply left, on the other.
            received_ns: When it arrived here, on this clock.
        """
        delay_ns = (received_ns - sent_ns) - (replied_ns - arrived_ns)
        offset_ns = ((arrived_ns - sent_ns) + (replied_ns - received_ns)) // 2
        new = _RoundTrip(received_ns, offset_ns, delay_ns)
        if delay_ns < 0:  # the other clock went on for longer than this one, or went back
            return self._restart()
        for old in self._best:
            if abs(offset_ns - old.offset_ns) > (delay_ns + 1) // 2 + old.bound_ns(received_ns):
                self._restart()
                self._best.append(new)
                return True
        newest = self._best[-1] if self._best else None
        if newest is None or received_ns // _WINDOW_NS != newest.at_ns // _WINDOW_NS:
            self._best.append(new)
        elif new.bound_ns(received_ns) <= newest.bound_ns(received_ns):
            self._best[-1] = new
        return False

    def estimate(self, now_ns: int) -> ClockEstimate | None:
        """Return what is known; None before the first round trip, and after a jump until the next.

        Args:
            now_ns: The time that the offset is for, nanoseconds on this clock.
        """
        if not self._best:
            return None
        drift = _slope(self._best)
        best = min(self._best, key=lambda each: each.bound_ns(now_ns))
        return ClockEstimate(
            best.offset_ns + round((now_ns - best.at_ns) * drift),
            best.bound_ns(now_ns),
            drift * 1e6,
            self._steps,
        )

    def _restart(self) -> bool:
        self._best.clear()
        self._steps += 1
        return True


def _slope(trips: Sequence[_RoundTrip]) -> float:
    """Return how fast the offset grows, least squares; 0 while too little is known to tell."""
    if len(trips) < 3 or trips[-1].at_ns - trips[0].at_ns < _DRIFT_SPAN_NS:
        return 0.0
    count, first = len(trips), trips[0]
    times = [trip.at_ns - first.at_ns for trip in trips]
    offsets = [trip.offset_ns - first.offset_ns for trip in trips]
    mean_time, mean_offset = sum(times) / count, sum(offsets) / count
    spread = sum((each - mean_time) ** 2 for each in times)
    together = sum((t - mean_time) * (o - mean_offset) for t, o in zip(times, offsets, strict=True))
    return together / spread
