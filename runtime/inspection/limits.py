"""What ``saccade inspect`` says of a bundle's limits: each axis with what it may do, or why they do not go together."""

from __future__ import annotations

from math import isfinite

from saccade.proto.axis_kind import AxisKind
from saccade.proto.errors import ManifestError
from saccade.proto.manifest import Manifest
from saccade.runtime.motion.motion_limits import MotionLimits

_PER = {"velocity": "/s", "acceleration": "/s²", "jerk": "/s³"}


def tell_limits(manifest: Manifest) -> dict[str, str]:
    """Return what commands are held to, in words.

    Args:
        manifest: Manifest of a bundle that controls a robot.

    Returns:
        The one fact ``limits``.
    """
    try:
        limits = MotionLimits.of(manifest.limits, manifest.action)
    except ManifestError as error:
        return {"limits": f"each chunk by itself alone: {error.message}"}
    return {
        "limits": "; ".join(_axis(limits, index, unit) for index, unit in enumerate(manifest.action.units))
    }


def _axis(limits: MotionLimits, index: int, unit: str) -> str:
    kind, unit = limits.kinds[index], "" if unit == "1" else unit
    words = [] if kind is AxisKind.LINEAR else [kind.value]
    if limits.is_delta[index]:
        words.append("delta")
    if isfinite(limits.low[index]):
        words.append(f"{limits.low[index]:.3g} to {limits.high[index]:.3g} {unit}".rstrip())
    for name, per in _PER.items():
        most = getattr(limits, name)[index]
        if isfinite(most):
            words.append(f"{most:.3g} {unit}{per}" if unit else f"{most:.3g}{per}")
    return f"{limits.names[index]} {', '.join(words) or 'unlimited'}"
