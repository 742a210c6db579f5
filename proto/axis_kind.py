"""How the numbers of an action's axis are to be read, by name as in ``embodiment.json``."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import groupby

from saccade.proto.errors import ManifestError


class AxisKind(str, Enum):
    """How the numbers of an axis are to be read.

    ``ANGLE`` is radians that wrap: -pi and pi are one place. ``AXIS_ANGLE`` and ``ROLL_PITCH_YAW`` take three axes in a
    row, radians, that are one rotation: a rotation vector, or turns about the fixed x, then y, then z axis.
    ``DISCRETE`` jumps, as the command of a gripper does: nothing but its position is limited.
    """

    LINEAR = "linear"
    ANGLE = "angle"
    AXIS_ANGLE = "axis_angle"
    ROLL_PITCH_YAW = "roll_pitch_yaw"
    DISCRETE = "discrete"


ROTATIONS = (AxisKind.AXIS_ANGLE, AxisKind.ROLL_PITCH_YAW)


def axis_kinds(names: Sequence[str]) -> tuple[AxisKind, ...]:
    """Read the kinds of the axes by name.

    Raises:
        ManifestError: A kind is unknown.
    """
    try:
        return tuple(AxisKind(name) for name in names)
    except ValueError as error:
        raise ManifestError(
            f"kinds: expected each one of {', '.join(kind.value for kind in AxisKind)}, found {list(names)}."
        ) from error


def rotation_starts(kinds: Sequence[AxisKind]) -> tuple[int, ...]:
    """Return the index of the first of each rotation's three axes.

    Raises:
        ManifestError: A rotation has not three axes in a row.
    """
    starts: list[int] = []
    at = 0
    for kind, run in groupby(kinds):
        count = len(list(run))
        if kind in ROTATIONS:
            if count % 3:
                raise ManifestError(
                    f"kinds: expected three axes in a row for each {kind.value}, found {count} from axis {at}."
                )
            starts += range(at, at + count, 3)
        at += count
    return tuple(starts)
