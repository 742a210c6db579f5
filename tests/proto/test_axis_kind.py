import pytest

from saccade.proto.axis_kind import AxisKind, axis_kinds, rotation_starts
from saccade.proto.errors import ManifestError


def test_kinds_are_read_by_name() -> None:
    assert axis_kinds(["linear", "axis_angle"]) == (AxisKind.LINEAR, AxisKind.AXIS_ANGLE)
    with pytest.raises(ManifestError, match=r"expected each one of linear, angle.*found \['hinge'\]"):
        axis_kinds(["hinge"])


def test_rotations_take_three_axes_each() -> None:
    kinds = (AxisKind.LINEAR, *(AxisKind.AXIS_ANGLE,) * 6, *(AxisKind.ROLL_PITCH_YAW,) * 3)
    assert rotation_starts(kinds) == (1, 4, 7)
    with pytest.raises(ManifestError, match="three axes in a row for each axis_angle, found 2 from axis 0"):
        rotation_starts((AxisKind.AXIS_ANGLE,) * 2)
