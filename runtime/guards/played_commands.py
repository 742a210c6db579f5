"""Which commands a client has carried out, as far as a daemon can know: the last one, and how it was reached.

A client that does not limit itself plays a chunk from its first action on, one action for each control step, from when
it arrives until it looks again. How many it played it says itself, or the time tells it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.runtime.motion.axis_geometry import AxisGeometry

Array = NDArray[np.float64]
DEPTH = 2
"""Ways that are remembered: as many as a jerk looks back."""


class PlayedCommands:
    """The commands of one session, from when the robot stands.

    Args:
        geometry: Ways between commands.
        dim: Width of a command.
        period_ns: Nanoseconds of one control step.

    Attributes:
        place: float64 ``(dim,)``: the last command that was carried out; None while nothing is known of it.
        ways: float64 ``(DEPTH, dim)``: the ways that led to it, the oldest first; 0 where the robot stood.
    """

    place: Array | None
    ways: Array

    def __init__(self, geometry: AxisGeometry, dim: int, period_ns: int) -> None:
        self._geometry, self._dim, self._period_ns = geometry, dim, period_ns
        self.reset()

    def reset(self) -> None:
        """Begin an episode: the robot stands, nobody knows where."""
        self.place, self.ways = None, self._standing()
        self._before: tuple[Array | None, Array] = None, self.ways
        self._chunk = np.zeros((0, self._dim))
        self._sent_ns = 0

    def stand(self, place: NDArray[np.floating[Any]]) -> None:
        """Take a pose that the robot stands in.

        Args:
            place: float ``(dim,)``; what it holds for deltas is not looked at.
        """
        self.place, self.ways = np.asarray(place, np.float64), self._standing()

    def note(self, actions: NDArray[np.float32], sent_ns: int) -> None:
        """Take note of a chunk that was sent; nothing of it is played yet.

        Args:
            actions: float32 ``(chunk, dim)``, physical units.
            sent_ns: When, monotonic nanoseconds.
        """
        self._before = self.place, self.ways
        self._chunk, self._sent_ns = actions.astype(np.float64), sent_ns

    def play(self, seen_ns: int, executed: int | None) -> None:
        """Move on by what was played of the last chunk until an observation; may be asked again for a later one.

        Args:
            seen_ns: When it was captured, on the clock of :meth:`note`; a time before the chunk plays nothing.
            executed: How many actions the client says that it played; None = told by the time, then whole control
                steps without one are steps in which the robot stood.
        """
        count = len(self._chunk)
        if not count:
            return
        steps = max(0, (seen_ns - self._sent_ns) // self._period_ns) if executed is None else executed
        self.place, self.ways = self._before
        played = self._chunk[: min(steps, count)]
        if len(played):
            first = played[0] if self.place is None else self.place
            gone = self._geometry.way(np.concatenate([first[None], played[:-1]]), played)
            self.place, self.ways = played[-1], np.concatenate([self.ways, gone])[-DEPTH:]
        if executed is None and steps > count:
            self.ways = np.concatenate([self.ways, self._standing()[: steps - count]])[-DEPTH:]

    def _standing(self) -> Array:
        return np.zeros((DEPTH, self._dim))
