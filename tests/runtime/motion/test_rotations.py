import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.spatial.transform import Rotation

from saccade.runtime.motion import rotations

ANGLES = npst.arrays(np.float64, (4, 3), elements=st.floats(-7, 7) | st.sampled_from([0.0, np.pi, np.pi / 2]))


def is_one(ours: np.ndarray, scipys: Rotation) -> bool:  # type: ignore[type-arg]
    theirs = scipys.as_quat(scalar_first=True)
    return bool((np.abs((ours * theirs).sum(-1)) > 1 - 1e-14).all())


@given(ANGLES, ANGLES)
def test_rotations_are_those_of_scipy(first: np.ndarray, second: np.ndarray) -> None:  # type: ignore[type-arg]
    one, other = Rotation.from_rotvec(first), Rotation.from_euler("xyz", second)
    a, b = rotations.from_vector(first), rotations.from_roll_pitch_yaw(second)
    assert is_one(a, one) and is_one(b, other)
    assert is_one(rotations.times(a, b), one * other)
    assert is_one(rotations.inverse(a), one.inv())
    assert is_one(rotations.from_vector(rotations.to_vector(a)), one)
    assert (np.linalg.norm(rotations.to_vector(a), axis=-1) <= np.pi + 1e-12).all()


@given(ANGLES)
@pytest.mark.parametrize("off", [0.0, 1e-3, 1e-8, 1e-12])
def test_roll_pitch_yaw_come_back_at_and_beside_the_gimbal_lock(off: float, angles: np.ndarray) -> None:  # type: ignore[type-arg]
    angles[:2, 1] = np.pi / 2 - off
    turned = rotations.from_roll_pitch_yaw(angles)
    again = rotations.from_roll_pitch_yaw(rotations.to_roll_pitch_yaw(turned))
    gap = np.linalg.norm(rotations.to_vector(rotations.times(rotations.inverse(turned), again)), axis=-1)
    assert gap.max() < 1e-7


def test_no_turn_is_no_vector() -> None:
    np.testing.assert_array_equal(rotations.to_vector(np.array([1.0, 0, 0, 0])), [0, 0, 0])
    np.testing.assert_array_equal(rotations.from_vector(np.zeros(3)), [1, 0, 0, 0])
