"""Limits for tests: the same for each axis."""

from __future__ import annotations

from math import inf

from saccade.proto.axis_kind import AxisKind
from saccade.runtime.motion.motion_limits import MotionLimits


def limits_of(
    dim: int,
    kind: AxisKind = AxisKind.LINEAR,
    velocity: float = 1.0,
    acceleration: float = 5.0,
    jerk: float = 100.0,
    low: float = -1.0,
    high: float = 1.0,
    is_delta: bool = False,
) -> MotionLimits:
    has_range = kind in {AxisKind.LINEAR, AxisKind.DISCRETE} and not is_delta
    return MotionLimits(
        tuple(f"axis{index}" for index in range(dim)),
        (kind,) * dim,
        (is_delta,) * dim,
        (low if has_range else -inf,) * dim,
        (high if has_range else inf,) * dim,
        (velocity,) * dim,
        (acceleration,) * dim,
        (jerk,) * dim,
        0.1,
    )
