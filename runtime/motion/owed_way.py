"""What a chunk of deltas counts on and was not commanded: the actions before it arrived, less what was sent instead.

A model that answers late sees the robot where it was. Of ``[1 cm, 1 cm, 0, 0]`` the first two are past when the chunk
arrives; if the chunk before had only zeros left, skipping them would leave the robot 2 cm short, again and again.
So what is missing is made up for, evenly over as long as the chunk was under way or what is left of it if that is
less, no faster than each axis may go. For turns the
three numbers are added, which is right to first order.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_KEPT = 1000
"""Commands that are remembered: ten seconds at 100 Hz. A chunk older than that owes nothing."""


class OwedWay:
    """The deltas that one robot was sent, and what it is still owed.

    Args:
        is_delta: bool ``(dim,)``: which axes are deltas; the others are owed nothing.
        period_ns: Nanoseconds of one control step.
        velocity: float64 ``(dim,)``: how fast each axis may go, unit per second; may be ``inf``.
    """

    def __init__(self, is_delta: NDArray[np.bool_], period_ns: int, velocity: Array) -> None:
        self._delta, self._period_ns, self._velocity = is_delta, period_ns, velocity
        self.reset()

    def reset(self) -> None:
        """Begin an episode: nothing was sent, nothing is owed."""
        self._sent: deque[tuple[int, Array]] = deque(maxlen=_KEPT)
        self.clear()

    def clear(self) -> None:
        """Owe nothing: the chunk that counted on it is not used any more."""
        self._owed, self._left_ns = np.zeros(len(self._delta)), 0

    def note(self, command: NDArray[np.float32], now_ns: int) -> None:
        """Take note of a command that is sent.

        Args:
            command: float32 ``(dim,)``.
            now_ns: When, monotonic nanoseconds.
        """
        self._sent.append((now_ns, np.where(self._delta, command, 0).astype(np.float64)))

    def owe(self, actions: NDArray[np.float32], captured_ns: int, now_ns: int) -> None:
        """Find what the newest chunk counts on; what was owed before it is not owed any more.

        Args:
            actions: float32 ``(chunk, dim)``, physical units.
            captured_ns: When its observation was captured, monotonic nanoseconds.
            now_ns: When it arrived.
        """
        self.clear()
        steps = (now_ns - captured_ns) / self._period_ns
        if steps <= 0 or not self._sent or self._sent[0][0] > captured_ns:
            return  # nothing is past, or nobody knows what was sent since
        shares = np.clip(steps - np.arange(len(actions)), 0, 1)
        counted_on = shares @ np.where(self._delta, actions, 0).astype(np.float64)
        sent = sum(
            (command for at_ns, command in self._sent if at_ns > captured_ns), np.zeros_like(self._owed)
        )
        left_ns = captured_ns + len(actions) * self._period_ns - now_ns
        self._owed = counted_on - sent
        self._left_ns = max(self._period_ns, min(now_ns - captured_ns, left_ns))

    def take(self, step_ns: int) -> Array:
        """Return what of it is due in a step, float64 ``(dim,)``; that is owed no more.

        Args:
            step_ns: Nanoseconds since the command before.
        """
        share = min(1.0, step_ns / self._left_ns) if self._left_ns > 0 else 0.0
        most = self._velocity * (step_ns / 1e9)
        due: Array = np.clip(self._owed * share, -most, most)
        self._owed, self._left_ns = self._owed - due, max(0, self._left_ns - step_ns)
        return due
