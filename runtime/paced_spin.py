"""A bounded spin before the next control step of a robot that asks at a steady rate.

Between two steps the processor sleeps, and the longer it may sleep, the longer it takes to wake and the lower its clock
is when the next observation comes. Whoever knows when that will be can stay awake for the last moment before. It costs
so much of one core in each step, so it is off unless asked for; `saccade bench --spin-us` measures what it gains.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from saccade.runtime.clock import Clock, monotonic_ns

MOST_SPIN_US = 10_000
"""Longest spin before a step, microseconds."""
_REMEMBERED = 9
"""Arrivals that the rate is told by."""
_FEWEST = 4
"""Arrivals before there is a rate."""
_STEADY = 0.25
"""Share of the period by which an interval may be longer or shorter, in a rate that is steady."""


class PacedSpin:
    """When to stay awake for the next observation; not safe between threads but for :meth:`note`.

    It spins from ``spin_ns`` before the moment at which the next one is expected until it is there, and for ``spin_ns``
    behind that moment at most. Where observations come at no steady rate it never spins.

    Args:
        spin_ns: How long, nanoseconds; 0 = never.
        clock: Returns monotonic nanoseconds.

    Attributes:
        spun_ns: Nanoseconds that were spun so far.
    """

    def __init__(self, spin_ns: int, clock: Clock = monotonic_ns) -> None:
        self.spun_ns = 0
        self._spin_ns = spin_ns
        self._clock = clock
        self._arrivals: deque[int] = deque(maxlen=_REMEMBERED)

    @property
    def is_on(self) -> bool:
        """Whether it ever spins."""
        return self._spin_ns > 0

    def note(self, arrived_ns: int) -> None:
        """Note that an observation arrived, nanoseconds on the clock."""
        if self.is_on:
            self._arrivals.append(arrived_ns)

    def left_ns(self) -> int | None:
        """Return how long until it is time to spin, nanoseconds; 0 = now, None = there is nothing to spin for."""
        expected_ns = self._expected_ns()
        now_ns = self._clock()
        if expected_ns is None or now_ns >= expected_ns + self._spin_ns:
            return None
        return max(0, expected_ns - self._spin_ns - now_ns)

    def spin(self, is_there: Callable[[], bool]) -> None:
        """Spin until something is there, or until it is too late to wait for it.

        Args:
            is_there: Asked again and again; another thread may change what it answers.
        """
        began_ns = self._clock()
        while not is_there() and self.left_ns() == 0:
            _let_others()
        self.spun_ns += self._clock() - began_ns

    def _expected_ns(self) -> int | None:
        """Return when the next observation is expected; None if they come at no steady rate."""
        arrivals = list(self._arrivals)
        if not self.is_on or len(arrivals) < _FEWEST:
            return None
        intervals = sorted(np.diff(arrivals).tolist())
        period = intervals[len(intervals) // 2]
        is_steady = period > 0 and intervals[-1] - intervals[0] <= 2 * _STEADY * period
        return arrivals[-1] + period if is_steady else None


def wait_until(due_ns: int, spin_ns: int) -> None:
    """Sleep until a moment, the last of it awake.

    Args:
        due_ns: The moment, nanoseconds on ``time.monotonic_ns``; one that has passed is waited for no more.
        spin_ns: How long before it to be awake, nanoseconds; 0 = the processor may sleep to the end.
    """
    time.sleep(max(0, due_ns - spin_ns - time.monotonic_ns()) / 1e9)
    while time.monotonic_ns() < due_ns:
        _let_others()


def _let_others() -> None:
    """Hand over the interpreter and the core if anybody wants them, and stay awake."""
    time.sleep(0)
    if hasattr(os, "sched_yield"):
        os.sched_yield()
