"""Counters and latency histograms: constant memory, however long the daemon runs."""

from __future__ import annotations

import threading
from collections import Counter

_STEPS_PER_OCTAVE = 8  # buckets 9 % wide
_BUCKETS = 40 * _STEPS_PER_OCTAVE  # up to 2^40 ns, 18 minutes


class LatencyHistogram:
    """Durations in buckets of logarithmic width; quantiles are exact to 9 %.

    Attributes:
        count: How many durations were recorded.
    """

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0

    def record(self, duration_ns: int) -> None:
        """Count one duration.

        Args:
            duration_ns: The duration, nanoseconds.
        """
        octave = max(duration_ns, 1).bit_length() - 1
        within = ((duration_ns << _STEPS_PER_OCTAVE.bit_length() - 1) >> octave) - _STEPS_PER_OCTAVE
        self._counts[min(octave * _STEPS_PER_OCTAVE + max(within, 0), _BUCKETS - 1)] += 1
        self.count += 1

    def quantile_ns(self, fraction: float) -> int:
        """Return the upper edge of the bucket that holds the quantile; 0 if nothing was recorded.

        Args:
            fraction: Which quantile, in 0..1.
        """
        rank = fraction * self.count
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if count and seen >= rank:
                octave, within = divmod(index, _STEPS_PER_OCTAVE)
                return ((_STEPS_PER_OCTAVE + within + 1) << octave) // _STEPS_PER_OCTAVE
        return 0


class Counters:
    """What the daemon counted since it started. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: Counter[str] = Counter()
        self._histograms: dict[str, LatencyHistogram] = {}

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter.

        Args:
            name: Name of the counter.
            amount: How much is added.
        """
        with self._lock:
            self._counters[name] += amount

    def time(self, name: str, duration_ns: int) -> None:
        """Add a duration to a histogram.

        Args:
            name: Name of the histogram.
            duration_ns: The duration, nanoseconds.
        """
        with self._lock:
            self._histograms.setdefault(name, LatencyHistogram()).record(duration_ns)

    def snapshot(self) -> dict[str, int]:
        """Return every counter, and p50 and p99 of every histogram as ``<name>.p50_ns`` and ``<name>.p99_ns``."""
        with self._lock:
            result = dict(self._counters)
            for name, histogram in self._histograms.items():
                result[f"{name}.p50_ns"] = histogram.quantile_ns(0.50)
                result[f"{name}.p99_ns"] = histogram.quantile_ns(0.99)
            return result
