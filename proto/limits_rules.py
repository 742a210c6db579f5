"""The rules of an embodiment's limits: what contradicts itself is refused where it is written, not on the robot."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Protocol

from saccade.proto.axis_kind import axis_kinds, rotation_starts
from saccade.proto.errors import ManifestError

RATES = ("velocity", "acceleration", "jerk")
"""Limits of the derivatives, by name."""


class AxisLimits(Protocol):
    """What the rules look at; :class:`saccade.proto.manifest.LimitsSpec` has it."""

    @property
    def low(self) -> tuple[float, ...]:
        """Smallest value of each axis."""
        ...

    @property
    def high(self) -> tuple[float, ...]:
        """Largest value."""
        ...

    @property
    def max_change(self) -> tuple[float, ...]:
        """Largest change from one control step to the next."""
        ...

    @property
    def margin(self) -> tuple[float, ...]:
        """How far inside of them a place is kept; empty = at them."""
        ...

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds; empty = nobody says."""
        ...


def check_axis_limits(limits: AxisLimits) -> None:
    """Refuse limits that no robot can keep.

    Args:
        limits: Limits of each axis, in the action's units.

    Raises:
        ManifestError: Lengths differ, a range is empty or lost to its margin, a limit is not above 0, or a kind is
            unknown or not whole.
    """
    if not len(limits.low) == len(limits.high) == len(limits.max_change):
        raise ManifestError("expected low, high and max_change of one length.")
    if any(not low < high for low, high in zip(limits.low, limits.high, strict=True)):
        raise ManifestError(f"expected low < high, found {list(limits.low)} and {list(limits.high)}.")
    if any(not change > 0 for change in limits.max_change):
        raise ManifestError(f"expected max_change > 0, found {list(limits.max_change)}.")
    for name in ("margin", *RATES, "kinds"):
        if len(getattr(limits, name)) not in {0, len(limits.low)}:
            raise ManifestError(f"expected {name} for none or for each of {len(limits.low)} dimensions.")
    for name in RATES:
        _check_each(name, getattr(limits, name), "above 0", [rate > 0 for rate in getattr(limits, name)])
    margins = limits.margin
    _check_each(
        "margin", margins, "0 or more and finite", [margin >= 0 and isfinite(margin) for margin in margins]
    )
    if margins:
        ranges = zip(limits.low, limits.high, margins, strict=True)
        left = [low + margin < high - margin for low, high, margin in ranges]
        _check_each("margin", margins, "positions to be left between the margins", left)
    rotation_starts(axis_kinds(limits.kinds))


def _check_each(name: str, values: Sequence[float], expected: str, holds: Sequence[bool]) -> None:
    if not all(holds):
        at = holds.index(False)
        raise ManifestError(f"{name}: expected {expected}, found {values[at]:g} for axis {at} (from 0).")
