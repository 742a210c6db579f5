"""The ways that axes may go next: within the limits of their differences, and with a standstill ahead.

Velocity, acceleration and jerk of what is sent are divided differences over the true times, times 1, 2 and 6: with
equal steps the usual ``(v - v_before) / step``, with unequal ones a mean of the derivative.

A way is free to go if its differences keep the limits *and* a curve to a standstill leads on from it: the parabola
through the last three places, then :class:`saccade.runtime.motion.stop_curve.StopCurve`, within position, velocity,
acceleration and jerk. Where none is free, the axis goes along the last such curve: the differences of places on a
curve are values of its derivatives (mean value theorem), whatever the times between them, so there is always a way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saccade.runtime.motion.stop_curve import StopCurve
from saccade.runtime.motion.tight_limits import TightLimits

Array = NDArray[np.float64]
_ROUNDS = 9
"""Evaluations in the search for a clamped way; whatever they find is checked before it is sent."""


class AxisMotion:
    """How the axes moved, and how they may move on; all arrays are float64 ``(dim,)``, axes do not know of one another.

    Args:
        limits: Limits of each axis.
        min_step_s: Smallest time between two commands, seconds; the axes stood still for two of them.
    """

    def __init__(self, limits: TightLimits, min_step_s: float) -> None:
        self._limits = limits
        still = np.zeros(len(limits.low))
        self._min_step = still + min_step_s
        self._ways, self._steps = (still, still), (self._min_step, self._min_step)
        self._curve = StopCurve(still, still, limits.curve_acceleration, limits.curve_jerk)
        self._curve_s, self._curve_gone = still, still
        self._is_instant = np.isinf(limits.jerk) & np.isinf(limits.curve_acceleration)
        self._step_s, self._low, self._high = min_step_s, still, still
        self._reach = (still, still)
        self._goal, self._drift, self._comes_up = still, (still, still), still >= 0

    def set_step(self, step_s: float, low: Array, high: Array) -> None:
        """Say how long the next way takes and how far it may go; must come before everything that follows.

        Args:
            step_s: Seconds since the last command.
            low: Way to the lowest position; above 0 where the axis is outside, then it goes no further out.
            high: Way to the highest position; below 0 where it is outside.
        """
        lim, (last, before), (h1, h2), h = self._limits, self._ways, self._steps, step_s
        v1 = last / h1
        a1 = (v1 - before / h2) * 2 / (h1 + h2)
        span, jump = (h + h1) / 2, lim.jerk * (h + h1 + h2) / 3
        bend = lim.curve_acceleration * span
        least = np.maximum(np.maximum(-lim.velocity, v1 - bend), v1 + (a1 - jump) * span)
        most = np.minimum(np.minimum(lim.velocity, v1 + bend), v1 + (a1 + jump) * span)
        self._step_s, self._low, self._high = step_s, low, high
        self._reach = (
            np.maximum(np.minimum(low, 0), least * h),
            np.minimum(np.maximum(high, 0), most * h),
        )

    def planned(self) -> Array:
        """Return the way along the curves to a standstill."""
        return self._curve.place(self._curve_s + self._step_s) - self._curve_gone

    def fits(self, way: Array) -> NDArray[np.bool_]:
        """Return which axes are free to go a way: bool ``(dim,)``."""
        up, down = self._slack(way)
        return (way >= self._reach[0]) & (way <= self._reach[1]) & (up >= 0) & (down >= 0)

    def stands(self) -> bool:
        """Return whether no axis moved in the last way, nor will if nothing more is wanted."""
        is_over = self._curve_s >= self._curve.duration_s
        return bool(((np.abs(self._ways[0]) <= 2 * self._limits.rounding) & is_over).all())

    def rests(self) -> NDArray[np.bool_]:
        """Return which axes had time to stop, go back and stand where the last command left them: bool ``(dim,)``.

        From the speed ``v`` it takes them what is left of their curve, which goes no further than three times the way
        on which ``v`` is stopped, and back at most three times as long as stopping it takes.
        """
        top = np.max(np.abs(self._curve.speeds()), axis=0)
        lim = self._limits
        stop = StopCurve(top, np.zeros_like(top), lim.curve_acceleration, lim.curve_jerk)
        left = np.maximum(self._curve.duration_s - self._curve_s, 0)
        return np.asarray(self._step_s >= left + 3 * stop.duration_s)

    def nearest(self, way: Array, drift: tuple[Array, Array]) -> Array:
        """Return the way nearest to a wanted one that is free and from which it need not be passed; NaN = none found.

        A longer way ends further up, faster and with more acceleration, so what leads out upwards is cured by a
        shorter one, and the other way round.

        Args:
            way: The wanted way.
            drift: Speed and acceleration with which what is wanted moves on.
        """
        least, most = self._reach
        bad = np.clip(way, least, most)
        self._set_goal(way, drift)
        slack_up, slack_down = self._slack_to_goal(bad)
        up, down = slack_up < 0, slack_down < 0
        found = np.where((up & down) | (least > most), np.nan, bad)
        if (up ^ down).any():
            good = np.where(up, least, np.where(down, most, bad))
            found = np.where((up ^ down) & ~np.isnan(found), self._search(good, bad, up), found)
        return found

    def meets(self, way: Array, drift: tuple[Array, Array]) -> NDArray[np.bool_]:
        """Return which axes, once they went a way, need not pass what is wanted by more than one step corrects.

        Args:
            way: The wanted way.
            drift: Speed and acceleration with which what is wanted moves on.
        """
        self._set_goal(way, drift)
        lim, h = self._limits, self._step_s
        most = np.minimum(lim.curve_acceleration * h**2 / 8, lim.curve_jerk * h**3 / 2)
        back, ahead = StopCurve(*self._drifted(way), lim.curve_acceleration, lim.curve_jerk).extent()
        return np.asarray(np.where(self._comes_up, ahead, -back) <= most)

    def adopt(self, way: Array, on_curve: NDArray[np.bool_], stands: NDArray[np.bool_]) -> None:
        """Take a way as gone.

        Args:
            way: The way of each axis.
            on_curve: bool ``(dim,)``: which axes went along their curve; the others begin the one that leads on.
            stands: bool ``(dim,)``: which of the others stand still now, whatever the parabola says.
        """
        lim, end = self._limits, np.where(stands, 0, self._end(way))
        fresh = StopCurve(end[0], end[1], lim.curve_acceleration, lim.curve_jerk)
        self._curve = self._curve.where(on_curve, fresh)
        self._curve_s = np.where(on_curve, self._curve_s + self._step_s, 0)
        self._curve_gone = np.where(on_curve, self._curve_gone + way, 0)
        # Those that stand begin anew: a long step would hide how sudden the next way is.
        self._ways = (np.where(stands, 0, way), np.where(stands, 0, self._ways[0]))
        self._steps = (
            np.where(stands, self._min_step, self._step_s),
            np.where(stands, self._min_step, self._steps[0]),
        )

    def _end(self, way: Array) -> tuple[Array, Array]:
        """Return velocity and acceleration with which the parabola through the last three places ends."""
        h, h1 = self._step_s, self._steps[0]
        v1 = way / h
        a = (v1 - self._ways[0] / h1) * 2 / (h + h1)
        return np.where(self._is_instant, 0, v1 + a * h / 2), np.where(np.isinf(self._limits.jerk), 0, a)

    def _slack(self, way: Array) -> tuple[Array, Array]:
        """Return how much the curve that leads on from a way leaves free upwards, and downwards, in units of way."""
        lim = self._limits
        curve = StopCurve(*self._end(way), lim.curve_acceleration, lim.curve_jerk)
        return self._free(way, curve.speeds(), curve.extent())

    def _free(
        self, way: Array, speeds: tuple[Array, Array], extent: tuple[Array, Array]
    ) -> tuple[Array, Array]:
        speed, (least, most), (back, ahead) = self._limits.curve_velocity, speeds, extent
        up = np.minimum((speed - most) * self._step_s, np.maximum(self._high, way) - (way + ahead))
        down = np.minimum((speed + least) * self._step_s, way + back - np.minimum(self._low, way))
        return up, down

    def _slack_to_goal(self, way: Array) -> tuple[Array, Array]:
        """Return the slack with what is wanted as an end too, seen from something that drifts as it does."""
        lim, (v, a), (drift_v, drift_a) = self._limits, self._end(way), self._drifted(way)
        # Both curves at once: for a handful of axes the calls cost, not the numbers.
        both = StopCurve(
            np.stack([v, drift_v]), np.stack([a, drift_a]), lim.curve_acceleration, lim.curve_jerk
        )
        (least, most), (back, ahead) = both.speeds(), both.extent()
        up, down = self._free(way, (least[0], most[0]), (back[0], ahead[0]))
        return (
            np.where(self._comes_up, np.minimum(up, self._goal - (way + ahead[1])), up),
            np.where(self._comes_up, down, np.minimum(down, way + back[1] - self._goal)),
        )

    def _set_goal(self, way: Array, drift: tuple[Array, Array]) -> None:
        self._goal, self._drift, self._comes_up = way, drift, way >= self.planned()

    def _drifted(self, way: Array) -> tuple[Array, Array]:
        """Return velocity and acceleration at the end of a way, seen from what drifts."""
        (v, a), (drift_v, drift_a) = self._end(way), self._drift
        return (
            np.where(self._is_instant, 0, v - drift_v),
            np.where(np.isinf(self._limits.jerk), 0, a - drift_a),
        )

    def _search(self, good: Array, bad: Array, up: NDArray[np.bool_]) -> Array:
        """Return the way nearest to ``bad`` that leads nowhere out on the side where ``bad`` does.

        Regula falsi, every third time the middle; a free way is never given up for one that is not.
        """
        slack_good, slack_bad = (np.where(up, *self._slack_to_goal(end)) for end in (good, bad))
        for turn in range(_ROUNDS):
            share: Array | float = 0.5
            if turn % 3 < 2:
                share = np.clip(slack_good / np.maximum(slack_good - slack_bad, 1e-300), 0, 1)
            tried = good + (bad - good) * share
            tried += np.sign(good - bad) * np.minimum(np.abs(tried - good), self._limits.rounding)
            slack = np.where(up, *self._slack_to_goal(tried))
            is_bad = ~(slack >= 0)
            bad, slack_bad = np.where(is_bad, tried, bad), np.where(is_bad, slack, slack_bad)
            good, slack_good = np.where(is_bad, good, tried), np.where(is_bad, slack_good, slack)
        return good
