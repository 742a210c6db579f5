"""What each axis of a command may do: position, velocity, acceleration and jerk, as a value made from the manifest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, isfinite, pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.proto.axis_kind import ROTATIONS, AxisKind, axis_kinds, rotation_starts
from saccade.proto.errors import LimitsError, ManifestError
from saccade.proto.manifest import ActionSpec, LimitsSpec
from saccade.runtime.motion.operator_limits import NARROWABLE, OperatorLimits


@dataclass(frozen=True)
class MotionLimits:
    """Limits of each axis of a command; ``inf`` = unlimited.

    The smallest of a rotation's three bounds the length of its angular velocity, acceleration and jerk.

    Args:
        names: Name of each axis.
        kinds: How each axis is to be read.
        is_delta: Whether a command of the axis is a displacement since the command before; else it is a place.
        low: Smallest position, margin taken off; ``-inf`` where there is none (deltas, rotations, angles that turn
            round).
        high: Largest position, margin taken off.
        velocity: Largest speed, unit per second.
        acceleration: Largest acceleration, unit per second squared.
        jerk: Largest jerk, unit per second cubed.
        period_s: Seconds of one control step of the model.

    Raises:
        ManifestError: Lengths differ, a range is empty, a limit is not above 0, or a rotation has not three axes.
    """

    names: tuple[str, ...]
    kinds: tuple[AxisKind, ...]
    is_delta: tuple[bool, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    velocity: tuple[float, ...]
    acceleration: tuple[float, ...]
    jerk: tuple[float, ...]
    period_s: float

    def __post_init__(self) -> None:
        columns = (
            self.kinds,
            self.is_delta,
            self.low,
            self.high,
            self.velocity,
            self.acceleration,
            self.jerk,
        )
        if any(len(column) != len(self.names) for column in columns):
            raise ManifestError(f"expected one limit of each kind for each of {list(self.names)}.")
        for index, name in enumerate(self.names):
            if not self.low[index] < self.high[index]:
                raise ManifestError(
                    f"axis {name!r}: expected positions to be left between the margins, found "
                    f"{self.low[index]:g}..{self.high[index]:g}: choose a smaller margin."
                )
            for word in ("velocity", "acceleration", "jerk"):
                if not getattr(self, word)[index] > 0:
                    raise ManifestError(
                        f"axis {name!r}: expected {word} > 0, found {getattr(self, word)[index]:g}."
                    )
            if self.kinds[index] is AxisKind.DISCRETE and self.is_delta[index]:
                raise ManifestError(f"axis {name!r}: expected a discrete axis to be a place, found a delta.")
        for start in self.rotation_starts:
            if len(set(self.is_delta[start : start + 3])) > 1:
                raise ManifestError(f"axis {self.names[start]!r}: expected three deltas or three places.")

    @property
    def dim(self) -> int:
        """Number of axes."""
        return len(self.names)

    @property
    def rotation_starts(self) -> tuple[int, ...]:
        """Index of the first of each rotation's three axes."""
        return rotation_starts(self.kinds)

    def is_kind(self, *kinds: AxisKind) -> NDArray[np.bool_]:
        """Return which axes are of one of ``kinds``: bool ``(dim,)``."""
        return np.array([kind in kinds for kind in self.kinds], bool)

    @classmethod
    def of(cls, limits: LimitsSpec, action: ActionSpec) -> MotionLimits:
        """Return the limits that a bundle's embodiment states.

        A place moves at most ``max_change`` in a control step, which is a speed. A delta lies within ``low`` and
        ``high``, which is a speed, and changes by at most ``max_change``, which is an acceleration. What ``velocity``
        and ``acceleration`` say holds too. Axes are deltas where the convention begins with ``delta``, all but discrete
        ones.

        Args:
            limits: The manifest's limits.
            action: What an action is.

        Raises:
            ManifestError: Actions are velocities, a delta's limits are not around 0, or rotations are mixed.
        """
        if "velocity" in action.convention:
            raise ManifestError(
                f"expected actions that are places or deltas, found the convention {action.convention!r}: integrate "
                "velocities in the controller, and limit what comes out."
            )
        kinds = _kinds(limits, action)
        rows = [_axis(limits, action, index, kind) for index, kind in enumerate(kinds)]
        is_delta, low, high, velocity, acceleration, jerk = zip(*rows, strict=True) if rows else [()] * 6
        return cls(
            action.names, kinds, is_delta, low, high, velocity, acceleration, jerk, 1 / action.control_hz
        )

    def narrowed(self, operator: OperatorLimits) -> MotionLimits:
        """Return these limits narrowed by an operator's.

        Args:
            operator: The operator's limits; what is empty stays.

        Raises:
            LimitsError: One of them is wider than the bundle's, not a number, or not one for each axis.
        """
        changed: dict[str, Any] = {
            word: self._narrower(word, getattr(operator, word))
            for word in NARROWABLE
            if getattr(operator, word)
        }
        try:
            return replace(self, **changed)
        except ManifestError as error:
            raise LimitsError(f"limits of the operator: {error.message}") from error

    def _narrower(self, word: str, asked: tuple[float | None, ...]) -> tuple[float, ...]:
        own: tuple[float, ...] = getattr(self, word)
        if len(asked) != self.dim:
            raise LimitsError(f"{word}: expected one for each of {list(self.names)}, found {list(asked)}.")
        narrow = [bound if wish is None else wish for wish, bound in zip(asked, own, strict=True)]
        is_place = word in {"low", "high"}
        for name, wish, bound in zip(self.names, narrow, own, strict=True):
            if not (wish >= bound if word == "low" else wish <= bound):
                raise LimitsError(
                    f"axis {name!r}: expected {word} within the bundle's {bound:g}, found {wish:g}: an operator "
                    "narrows limits and never widens them."
                )
            if is_place and wish != bound and not isfinite(bound):
                raise LimitsError(
                    f"axis {name!r}: expected no {word}, since a delta, a rotation or an angle that turns round has "
                    f"none, found {wish:g}: narrow its velocity instead."
                )
        return tuple(narrow)


def _kinds(limits: LimitsSpec, action: ActionSpec) -> tuple[AxisKind, ...]:
    """Return what each axis is; where nobody says, a gripper that jumps is told by its name."""
    if limits.kinds:
        return axis_kinds(limits.kinds)
    is_delta = action.convention.startswith("delta")
    spans = zip(action.names, limits.low, limits.high, limits.max_change, strict=True)
    return tuple(
        AxisKind.DISCRETE
        if "gripper" in name and (is_delta or change >= (high - low) / 2)
        else AxisKind.LINEAR
        for name, low, high, change in spans
    )


def _axis(
    limits: LimitsSpec, action: ActionSpec, index: int, kind: AxisKind
) -> tuple[bool, float, float, float, float, float]:
    """Return whether an axis is a delta, its lowest and highest position, velocity, acceleration and jerk."""
    low, high, change = limits.low[index], limits.high[index], limits.max_change[index]
    velocity, acceleration, jerk = (
        column[index] if column else inf for column in (limits.velocity, limits.acceleration, limits.jerk)
    )
    if kind is AxisKind.DISCRETE:
        return False, low, high, inf, inf, inf
    hz = action.control_hz
    if action.convention.startswith("delta"):
        if not low < 0 < high:
            raise ManifestError(
                f"axis {action.names[index]!r}: expected a delta's limits around 0, found {low:g}..{high:g}."
            )
        return True, -inf, inf, min(velocity, min(high, -low) * hz), min(acceleration, change * hz * hz), jerk
    margin = limits.margin[index] if limits.margin else 0.0
    turns_round = kind in ROTATIONS or (kind is AxisKind.ANGLE and high - low >= 2 * pi - 1e-5)
    low, high = (-inf, inf) if turns_round else (low + margin, high - margin)
    return False, low, high, min(velocity, change * hz), acceleration, jerk
