"""The way to a standstill: from any speed and acceleration, as quickly as acceleration and jerk allow, in closed form.

With ``s`` the sign of the speed that would be left if the acceleration went to 0 first, the curve has three parts:
jerk ``-s J`` until the acceleration is ``-s P``, then that acceleration, then jerk ``s J`` until it stands;
``P = min(A, sqrt(J |v| + a^2 / 2))``. It is the velocity part of Kröger's "On-Line Trajectory Generation in Robotic
Systems" (Springer, 2010), ch. 4, for the target speed 0. An unlimited jerk makes the outer parts vanish.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class StopCurve:
    """Curves to a standstill, one for each axis, from the place 0; all arrays are float64 ``(...)`` of one shape.

    Args:
        velocity: Speed at the start; 0 where acceleration and jerk are both unlimited.
        acceleration: Acceleration at the start, at most ``most_acceleration``; 0 where jerk is unlimited.
        most_acceleration: Largest acceleration, may be ``inf``.
        most_jerk: Largest jerk, may be ``inf``.
    """

    def __init__(
        self, velocity: Array, acceleration: Array, most_acceleration: Array, most_jerk: Array
    ) -> None:
        has_jerk = np.isfinite(most_jerk)
        jerk = np.where(has_jerk, most_jerk, 1.0)
        per_jerk = np.where(has_jerk, 1 / jerk, 0.0)
        sign = np.where(velocity + acceleration * np.abs(acceleration) * per_jerk / 2 < 0, -1.0, 1.0)
        v, a = sign * velocity, sign * acceleration
        root = np.where(has_jerk, np.sqrt(np.maximum(jerk * v + a * a / 2, 0)), np.inf)
        peak = np.minimum(most_acceleration, root)
        peak = np.where(np.isfinite(peak), peak, 0.0)
        first = np.maximum(a + peak, 0) * per_jerk
        excess = v + (a * a / 2 - peak * peak) * per_jerk
        second = np.where(
            root > most_acceleration, np.maximum(excess, 0) / np.where(peak > 0, peak, 1.0), 0.0
        )
        self._sign, self._v, self._a, self._peak = sign, v, a, peak
        self._jerk, self._per_jerk = jerk * has_jerk, per_jerk
        self._first, self._second, self._third = first, second, peak * per_jerk
        self.duration_s = first + second + self._third
        """Seconds until each axis stands."""

    def where(self, keeps: NDArray[np.bool_], other: StopCurve) -> StopCurve:
        """Return the curves of this one on the axes that ``keeps`` names, those of ``other`` elsewhere.

        Args:
            keeps: bool ``(...)``.
            other: Curves of the same axes.
        """
        mixed = object.__new__(StopCurve)
        mixed.__dict__ = {
            name: np.where(keeps, own, other.__dict__[name]) for name, own in self.__dict__.items()
        }
        return mixed

    def place(self, time_s: Array | float) -> Array:
        """Return where each axis is: float64 ``(...)``.

        Args:
            time_s: Seconds since the start, at least 0; behind the end it stands.
        """
        t1 = np.minimum(time_s, self._first)
        t2 = np.clip(time_s - self._first, 0, self._second)
        t3 = np.clip(time_s - self._first - self._second, 0, self._third)
        v1 = self._v + self._a * t1 - self._jerk * t1 * t1 / 2
        v2 = v1 - self._peak * t2
        x1 = t1 * (self._v + t1 * (self._a / 2 - self._jerk * t1 / 6))
        x2 = t2 * (v1 - self._peak * t2 / 2)
        x3 = t3 * (v2 + t3 * (self._jerk * t3 / 6 - self._peak / 2))
        way: Array = self._sign * (x1 + x2 + x3)
        return way

    def extent(self) -> tuple[Array, Array]:
        """Return the lowest and the highest place on the way: two float64 ``(...)``."""
        end = self.place(self.duration_s)
        # It runs back first where it still moves against the sign; then the speed is 0 at this time.
        turn = (
            self._a - np.sqrt(np.maximum(self._a * self._a + 2 * self._jerk * self._v, 0))
        ) * self._per_jerk
        back = np.where(self._v < 0, self.place(np.maximum(turn, 0)), 0.0)
        return np.minimum(np.minimum(end, back), 0), np.maximum(np.maximum(end, back), 0)

    def speeds(self) -> tuple[Array, Array]:
        """Return the lowest and the highest velocity on the way: two float64 ``(...)``."""
        rise = np.maximum(self._a, 0)
        top = np.maximum(self._v + rise * rise * self._per_jerk / 2, 0)
        least = np.minimum(self._v, 0)
        return np.where(self._sign > 0, least, -top), np.where(self._sign > 0, top, -least)
