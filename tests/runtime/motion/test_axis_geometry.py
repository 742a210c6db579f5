import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.spatial.transform import Rotation

from saccade.proto.axis_kind import AxisKind
from saccade.runtime.motion.axis_geometry import AxisGeometry
from tests.runtime.motion.limits_samples import limits_of

THREE = npst.arrays(np.float64, (3,), elements=st.floats(-3, 3))


@pytest.mark.parametrize("is_delta", [False, True])
@pytest.mark.parametrize(
    "kind", [AxisKind.LINEAR, AxisKind.ANGLE, AxisKind.AXIS_ANGLE, AxisKind.ROLL_PITCH_YAW]
)
@given(start=THREE, way=THREE)
def test_a_way_gone_is_the_way_there(kind, is_delta, start, way) -> None:  # type: ignore[no-untyped-def]
    way *= 0.5
    geometry = AxisGeometry(limits_of(3, kind, is_delta=is_delta))
    np.testing.assert_allclose(geometry.way(start, geometry.along(start, way)), way, atol=1e-9)


def test_an_angle_takes_the_short_way_across_the_half_turn() -> None:
    geometry = AxisGeometry(limits_of(1, AxisKind.ANGLE))
    np.testing.assert_allclose(geometry.way(np.array([3.1]), np.array([-3.1])), [2 * np.pi - 6.2])
    np.testing.assert_allclose(geometry.along(np.array([3.1]), np.array([0.2])), [3.3 - 2 * np.pi])


@given(THREE, THREE)
def test_a_rotation_goes_the_shortest_turn_from_where_it_is(start: np.ndarray, goal: np.ndarray) -> None:  # type: ignore[type-arg]
    for kind, read in (
        (AxisKind.AXIS_ANGLE, Rotation.from_rotvec),
        (AxisKind.ROLL_PITCH_YAW, lambda angles: Rotation.from_euler("xyz", angles)),
    ):
        way = AxisGeometry(limits_of(3, kind)).way(start, goal)
        turn = (read(start).inv() * read(goal)).as_rotvec()
        if np.linalg.norm(turn) < np.pi - 1e-6:
            np.testing.assert_allclose(way, turn, atol=1e-7)


def test_mixed_axes_keep_to_their_own_columns() -> None:
    limits = limits_of(8)
    kinds = (AxisKind.LINEAR, *[AxisKind.ROLL_PITCH_YAW] * 3, *[AxisKind.AXIS_ANGLE] * 3, AxisKind.DISCRETE)
    object.__setattr__(limits, "kinds", kinds)
    way = AxisGeometry(limits).way(np.zeros(8), np.array([0.5, 0, 0, 3, 0, 2, 0, 1.0]))
    np.testing.assert_allclose(way, [0.5, 0, 0, 3, 0, 2, 0, 1], atol=1e-12)
