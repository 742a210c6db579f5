"""No command leaves that breaks a limit, or from which the robot could not be stopped within all of them.

It starts from the last command that was *sent* and the true time since. What an axis may do is in
:mod:`saccade.runtime.motion.axis_motion`; here commands are read, rounded to float32 and checked as they are sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.proto.axis_kind import ROTATIONS, AxisKind
from saccade.proto.errors import InputError, ProprioError, TensorError
from saccade.runtime.motion.axis_geometry import AxisGeometry
from saccade.runtime.motion.axis_motion import AxisMotion
from saccade.runtime.motion.motion_limits import MotionLimits
from saccade.runtime.motion.tight_limits import TightLimits

Array = NDArray[np.float64]
_ABSURD_RAD = 1e3
"""An angle beyond is no angle."""


@dataclass(frozen=True)
class SentCommand:
    """What is sent to the robot.

    Args:
        values: float32 ``(dim,)``, physical units; a delta counts from the command sent before.
        clamped: bool ``(dim,)``: which axes were moved to keep a limit.
        is_refused: Whether the wanted command was refused whole, and the robot slows down instead.
        is_new: False where a tick came sooner than the smallest step: places are repeated, deltas are 0.
        step_ns: Nanoseconds since the command sent before, as they were counted.
    """

    values: NDArray[np.float32]
    clamped: NDArray[np.bool_]
    is_refused: bool
    is_new: bool
    step_ns: int


class CommandLimiter:
    """Limits one robot's commands, from the last one that was sent and the time since.

    A tick sooner than the smallest step after the last repeats it. A clock that goes back counts as one smallest step.
    After more than the longest step the robot is wanted to stay where the last command left it.

    Args:
        limits: Limits of each axis.
        min_step_ns: Smallest step, nanoseconds, above 0: a shorter one leaves less for the limits beside rounding.
        max_step_ns: Longest step that a wanted command is followed over, nanoseconds.
        refuses: Whether to refuse what breaks a limit instead of clamping it.
        reject_margin: A place further outside than this share of ``high - low`` is refused, not clamped.

    Raises:
        InputError: The steps are not in order, or float32 is too coarse for such limits at such a step.
    """

    def __init__(
        self,
        limits: MotionLimits,
        *,
        min_step_ns: int,
        max_step_ns: int,
        refuses: bool = False,
        reject_margin: float = 1.0,
    ) -> None:
        if not 0 < min_step_ns <= max_step_ns:
            raise InputError(f"expected 0 < min_step_ns <= max_step_ns, found {min_step_ns}, {max_step_ns}.")
        self.limits = limits
        self._geometry = AxisGeometry(limits)
        self._tight = TightLimits(limits, min_step_ns / 1e9, max_step_ns / 1e9)
        self._min_ns, self._max_ns, self._refuses = min_step_ns, max_step_ns, refuses
        self._angular = limits.is_kind(AxisKind.ANGLE, *ROTATIONS)
        self._delta = np.array(limits.is_delta, bool)
        self._discrete = limits.is_kind(AxisKind.DISCRETE)
        self._bounded_angle = limits.is_kind(AxisKind.ANGLE) & np.isfinite(limits.low)
        with np.errstate(invalid="ignore", over="ignore"):
            band = reject_margin * (self._tight.high - self._tight.low)
            far = np.where(
                self._delta, (1 + 2 * reject_margin) * np.array(limits.velocity) * limits.period_s, np.inf
            )
        has_range = np.isfinite(self._tight.low)
        self._reject_low = np.where(has_range, self._tight.low - band, -far)
        self._reject_high = np.where(has_range, self._tight.high + band, far)
        self._sent = np.zeros(limits.dim, np.float32)
        self._motion: AxisMotion | None = None
        self._outermost = (self._tight.low, self._tight.high)
        self._wanted: NDArray[np.float32] | None = None
        self._lags = np.zeros(limits.dim, bool)
        self._speed, self._step_s = np.zeros(limits.dim), min_step_ns / 1e9
        self.sent_ns = 0
        """When the last command was sent, monotonic nanoseconds."""

    @property
    def has_begun(self) -> bool:
        """Whether there is a last command to go on from."""
        return self._motion is not None

    @property
    def stands(self) -> bool:
        """Whether the last commands were a standstill, or there was none."""
        return self._motion is None or self._motion.stands()

    def begin(self, measured: NDArray[np.floating[Any]], now_ns: int) -> SentCommand:
        """Take the pose that the robot stands in as the first command: nothing can jump from there.

        Args:
            measured: float ``(dim,)``: where each place is; for a discrete axis what it was last told, for deltas
                anything.
            now_ns: When it is sent, monotonic nanoseconds.

        Raises:
            ProprioError: It has another width, a place is not finite, or lies more than a tenth of the range outside.
        """
        pose = np.asarray(measured, np.float64)
        if pose.shape != (self.limits.dim,) or not np.isfinite(pose[~self._delta]).all():
            raise ProprioError(
                f"expected a measured pose of {self.limits.dim} finite numbers {list(self.limits.names)}, found "
                f"{np.array2string(pose, threshold=20)}: command nothing before the sensors are read."
            )
        tight = self._tight
        pose = np.where(self._delta, 0, np.where(self._discrete, np.clip(pose, tight.low, tight.high), pose))
        with np.errstate(over="ignore"):
            first = pose.astype(np.float32)
        is_far = np.isfinite(tight.low) & ~((first >= tight.begin_low) & (first <= tight.begin_high))
        is_far |= ~np.isfinite(first) | self._angular & (np.abs(first) > _ABSURD_RAD)
        if is_far.any():
            name = self.limits.names[np.flatnonzero(is_far)[0]]
            raise ProprioError(
                f"axis {name!r}: expected a measured pose at most a tenth of the range outside of its limits, found "
                f"{pose[is_far][0]:g}: check units, or move the robot back by hand."
            )
        self._motion = AxisMotion(tight, self._min_ns / 1e9)
        self._outermost = (
            np.where(self._delta, -np.inf, np.minimum(tight.low, first)),
            np.where(self._delta, np.inf, np.maximum(tight.high, first)),
        )
        self._sent, self._wanted, self.sent_ns = first, None, now_ns
        self._lags = np.zeros(len(first), bool)
        return SentCommand(first.copy(), np.zeros(len(first), bool), is_refused=False, is_new=True, step_ns=0)

    def resume(self, place: NDArray[np.floating[Any]], ways: NDArray[np.float64], now_ns: int) -> None:
        """Go on from commands that somebody else sent, one smallest step apart, whether they kept the limits or not.

        Args:
            place: float ``(dim,)``, the last command; what it holds for deltas is not looked at.
            ways: float64 ``(steps, dim)``, the ways that led to it, the oldest first.
            now_ns: When it was sent, monotonic nanoseconds.

        Raises:
            ProprioError: A place is not finite, or lies more than a tenth of the range outside of its limits.
        """
        self.begin(place, now_ns)
        motion, still = AxisMotion(self._tight, self._min_ns / 1e9), np.zeros(self.limits.dim, bool)
        for way in ways:
            motion.set_step(self._min_ns / 1e9, -np.abs(way), np.abs(way))
            motion.adopt(way, still, still)
        self._motion, self._wanted = motion, self._sent.copy()
        self._speed = ways[-1] / (self._min_ns / 1e9)

    def reset(self) -> None:
        """Forget the last command: the next one needs a measured pose."""
        self._motion = None

    def limit(self, wanted: NDArray[np.floating[Any]] | None, now_ns: int) -> SentCommand:
        """Return what is sent for a wanted command; what is not finite or absurd is refused whole, never clamped.

        Args:
            wanted: float ``(dim,)``, physical units, a delta counted from the command sent before; None = nothing is
                wanted: to a standstill, as quickly as the limits allow.
            now_ns: When it is sent, monotonic nanoseconds.

        Raises:
            TensorError: It has another width.
            ProprioError: Nothing was begun.
        """
        if wanted is not None and np.shape(wanted) != (self.limits.dim,):
            raise TensorError(
                f"expected a command of {self.limits.dim} numbers, found shape {np.shape(wanted)}."
            )
        if self._motion is None:
            raise ProprioError(
                "expected a measured pose before the first command, found none: begin with it."
            )
        elapsed_ns = now_ns - self.sent_ns
        if 0 <= elapsed_ns < self._min_ns:
            nothing = np.zeros(self.limits.dim, bool)
            return SentCommand(self._sent.copy(), nothing, is_refused=False, is_new=False, step_ns=0)
        step_ns = elapsed_ns if elapsed_ns > 0 else self._min_ns
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            near = None if wanted is None else self._read(wanted)
            is_refused = wanted is not None and near is None
            low, high = (
                np.where(self._delta, end, end - self._sent) for end in (self._tight.low, self._tight.high)
            )
            self._motion.set_step(step_ns / 1e9, low, high)
            if step_ns > self._max_ns:
                near = None
                values, clamped, is_used = self._stay(self._motion)
            else:
                values, clamped, is_used = self._go(self._motion, near, step_ns / 1e9)
        self._wanted, self._lags = near, clamped
        self._sent, self.sent_ns = np.where(self._delta, np.float32(0), values), now_ns
        is_refused |= near is not None and not is_used
        return SentCommand(values.copy(), clamped, is_refused, is_new=True, step_ns=step_ns)

    def is_sane(self, wanted: NDArray[np.float32]) -> bool:
        """Return whether every number is finite and near enough to its limits to be meant.

        Args:
            wanted: float32 ``(..., dim)``, physical units.
        """
        is_within = (wanted >= self._reject_low) & (wanted <= self._reject_high) & np.isfinite(wanted)
        return bool((is_within & ~(self._angular & (np.abs(wanted) > _ABSURD_RAD))).all())

    def _read(self, wanted: NDArray[np.floating[Any]]) -> NDArray[np.float32] | None:
        """Return a wanted command as float32, None if it cannot be meant."""
        near = np.asarray(wanted).astype(np.float32)
        # -6.2 rad and 0.08 rad are one angle, but only one of them may be within the limits.
        again = self._geometry.along(self._sent, self._geometry.way(self._sent, near)).astype(np.float32)
        near = np.where(self._bounded_angle, again, near)
        return near if self.is_sane(near) else None

    def _go(
        self, motion: AxisMotion, near: NDArray[np.float32] | None, step_s: float
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], bool]:
        """Return the command that is sent, which axes are clamped, and whether the wanted one was used at all."""
        planned = motion.planned()
        values, fits = self._rounded(planned), np.zeros(self.limits.dim, bool)
        clamped, is_used = fits.copy(), False
        if near is not None:
            way, drift = self._geometry.way(self._sent, near), self._drift(near, step_s)
            # What lags behind a jump shall come to what is wanted, not shoot through it.
            passes = self._whole(motion.fits(way) & (~self._lags | motion.meets(way, drift)))
            is_used = not self._refuses or bool(passes.all())
            if is_used:
                tried, fits = (near, passes) if passes.all() else self._nearest(motion, near, passes, drift)
                values, clamped = np.where(fits, tried, values), ~passes
        way = np.where(fits, self._geometry.way(self._sent, values), self._gone(values, planned))
        motion.adopt(way, ~fits, np.zeros_like(fits))
        return values, clamped, is_used

    def _gone(self, values: NDArray[np.float32], planned: Array) -> Array:
        """Return the way to a command on the curve; it may be more than half a turn, which is not the shortest."""
        way = self._geometry.way(self._sent, values)
        return np.where(self._angular & (np.abs(way - planned) > 1), planned, way)

    def _stay(self, motion: AxisMotion) -> tuple[NDArray[np.float32], NDArray[np.bool_], bool]:
        """Return the last command again where there was time to come to rest there, else the place on the curve."""
        stands, planned = self._whole(motion.rests()), motion.planned()
        values = np.where(stands & ~self._delta, self._sent, self._rounded(np.where(stands, 0, planned)))
        motion.adopt(np.where(stands, 0, self._gone(values, planned)), ~stands, stands)
        return values, np.zeros_like(stands), False

    def _drift(self, near: NDArray[np.float32], step_s: float) -> tuple[Array, Array]:
        """Return speed and acceleration of what is wanted: of deltas their own, of places since the last two.

        A jump has none. As with commands, the parabola through the last three is what counts.
        """
        before = self._sent if self._wanted is None else self._wanted
        speed = np.asarray(self._geometry.way(before, near) / step_s)
        is_jump = (np.abs(speed) > self._tight.velocity) | ((self._wanted is None) & ~self._delta)
        speed = np.where(is_jump, 0, speed)
        bend = (speed - self._speed) * 2 / (step_s + self._step_s)
        bend = np.where(is_jump | (np.abs(bend) > self._tight.curve_acceleration), 0, bend)
        self._speed, self._step_s = speed, step_s
        return speed + bend * step_s / 2, bend

    def _nearest(
        self,
        motion: AxisMotion,
        near: NDArray[np.float32],
        passes: NDArray[np.bool_],
        drift: tuple[Array, Array],
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the free command nearest to a wanted one, and on which axes one was found."""
        way = self._geometry.way(self._sent, near)
        planned, nearest = motion.planned(), motion.nearest(way, drift)
        values, fits = near, passes
        for room in (0, 2):
            nearest = nearest + np.sign(planned - nearest) * room * self._tight.rounding
            plan = self._straightened(way, nearest, planned)
            values = np.where(fits, values, self._rounded(np.where(np.isfinite(plan), plan, 0)))
            fits = fits | self._whole(motion.fits(self._geometry.way(self._sent, values)))
        values = np.where(fits, values, self._rounded(np.where(np.isfinite(nearest), nearest, 0)))
        return values, fits | self._whole(motion.fits(self._geometry.way(self._sent, values)))

    def _rounded(self, way: Array) -> NDArray[np.float32]:
        """Return the float32 command of a way, within the positions."""
        command = self._geometry.along(self._sent, way).astype(np.float32)
        return np.clip(command, *self._outermost).astype(np.float32)

    def _whole(self, fits: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The axes of a rotation fit together or not at all."""
        together: NDArray[np.bool_] = fits.copy()
        columns = self._geometry.rotations
        together[columns] = fits[columns].all(-1, keepdims=True)
        return together

    def _straightened(self, way: Array, nearest: Array, planned: Array) -> Array:
        """Return ``nearest`` with rotations that keep their axis: as far towards the wanted one as all three may."""
        plan: Array = nearest.copy()
        for columns in self._geometry.rotations:
            wish, have = way[columns] - planned[columns], nearest[columns] - planned[columns]
            share = np.divide(have, wish, out=np.ones(3), where=np.abs(wish) > 1e-12)
            plan[columns] = planned[columns] + np.clip(share.min(), 0, 1) * wish
        return plan
