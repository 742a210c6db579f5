"""The limits that commands are held to, each axis alone, with room for what rounding to float32 does to differences.

Rounding a place by at most ``r`` changes a first divided difference over steps of at least ``h``, times 1, by at most
``2 r / h``, a second, times 2, by ``4 r / h^2``, a third, times 6, by ``8 r / h^3``: the sum of the coefficients'
magnitudes, largest where all steps are ``h``.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from saccade.proto.axis_kind import ROTATIONS, AxisKind
from saccade.proto.errors import InputError
from saccade.runtime.motion.motion_limits import MotionLimits

Array = NDArray[np.float64]
_EXACT = 1 - 1e-9
"""What float64 adds to differences is less than the rest."""
_OUTSIDE = 0.1
"""How far outside of its limits a pose may be to begin with, as a share of their range."""


class TightLimits:
    """Limits of differences and of curves; every array is float64 ``(dim,)``.

    Args:
        limits: Limits of the axes. Each axis of a rotation gets the share that keeps their length to the limit.
        min_step_s: Smallest time between two commands, seconds.
        max_step_s: Longest time over which one delta goes, seconds.

    Raises:
        InputError: float32 is too coarse for such a limit at such a step.
    """

    def __init__(self, limits: MotionLimits, min_step_s: float, max_step_s: float) -> None:
        self.low = _inwards(np.array(limits.low, np.float64), up=True)
        self.high = _inwards(np.array(limits.high, np.float64), up=False)
        velocity, acceleration, jerk = (
            np.array(column, np.float64) for column in (limits.velocity, limits.acceleration, limits.jerk)
        )
        for start in limits.rotation_starts:
            for column in (velocity, acceleration, jerk):
                column[start : start + 3] = column[start : start + 3].min() / sqrt(3)
        is_delta = np.array(limits.is_delta, bool)
        with np.errstate(over="ignore", invalid="ignore"):
            room = _OUTSIDE * (self.high - self.low)
            self.begin_low, self.begin_high = self.low - room, self.high + room
            farthest = np.maximum(np.abs(self.begin_low), np.abs(self.begin_high))
            turns_round = limits.is_kind(AxisKind.ANGLE, *ROTATIONS) & ~np.isfinite(farthest)
            farthest = np.where(is_delta, velocity * max_step_s, np.where(turns_round, np.pi, farthest))
            rounding = np.spacing(farthest.astype(np.float32)).astype(np.float64) / 2 + 1e-12
        # Three rounded numbers turn a rotation by the sum of what each one turns it.
        rounding[limits.is_kind(*ROTATIONS)] *= 3
        self.rounding = rounding
        has_curve = np.isfinite(acceleration) | np.isfinite(jerk)
        lost = np.where(has_curve, rounding, 0)
        self.velocity, self.jerk = velocity * _EXACT, jerk * _EXACT
        self.curve_velocity = self.velocity - 2 * lost / min_step_s
        self.curve_acceleration = acceleration * _EXACT - 4 * lost / min_step_s**2
        self.curve_jerk = self.jerk - 8 * lost / min_step_s**3
        for word, own, left in (
            ("velocity", velocity, self.curve_velocity),
            ("acceleration", acceleration, self.curve_acceleration),
            ("jerk", jerk, self.curve_jerk),
        ):
            coarse = np.flatnonzero(np.isfinite(own) & ~(left > own / 2))
            if coarse.size:
                raise InputError(
                    f"axis {limits.names[coarse[0]]!r}: expected a limit of {word} that float32 commands "
                    f"{min_step_s * 1e3:g} ms apart can tell, found {own[coarse[0]]:g}: raise the limit, or lower "
                    "the rate of the commands."
                )


def _inwards(bound: Array, *, up: bool) -> Array:
    """Return the nearest float32 that is not outside of a bound, as float64."""
    with np.errstate(over="ignore"):
        near = bound.astype(np.float32)
    outside = near < bound if up else near > bound
    towards = np.float32(np.inf if up else -np.inf)
    return np.where(outside, np.nextafter(near, towards), near).astype(np.float64)
