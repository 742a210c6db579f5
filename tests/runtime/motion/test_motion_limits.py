import re
from dataclasses import replace
from math import inf, pi

import pytest

from saccade.proto.axis_kind import AxisKind
from saccade.proto.errors import LimitsError, ManifestError
from saccade.proto.manifest import ActionSpec, LimitsSpec
from saccade.proto.strict_json import from_json, to_json
from saccade.runtime.motion.motion_limits import MotionLimits
from saccade.runtime.motion.operator_limits import OperatorLimits

ARM = ActionSpec(("shoulder", "gripper"), ("rad", "open"), 8, 20.0, "absolute_joint")
BOUNDS = LimitsSpec((-1.0, 0.0), (1.0, 1.0), (0.05, 1.0))
POSE = ActionSpec(tuple("xyzabcg"), ("m",) * 3 + ("rad",) * 3 + ("1",), 8, 10.0, "delta_ee")
POSE_LIMITS = LimitsSpec(
    (-0.02,) * 3 + (-0.1,) * 3 + (0.0,),
    (0.02, 0.02, 0.01) + (0.1,) * 3 + (1.0,),
    (0.03,) * 7,
    kinds=("linear",) * 3 + ("axis_angle",) * 3 + ("discrete",),
)


def test_an_old_bundle_says_speeds_and_the_gripper_jumps() -> None:
    limits = MotionLimits.of(BOUNDS, ARM)
    assert limits.kinds == (AxisKind.LINEAR, AxisKind.DISCRETE)
    assert limits.velocity == (0.05 * 20, inf)
    assert limits.acceleration == limits.jerk == (inf, inf)
    assert (limits.low, limits.high, limits.is_delta) == ((-1, 0), (1, 1), (False, False))
    slow = MotionLimits.of(replace(BOUNDS, max_change=(0.05, 0.1)), ARM)
    assert slow.kinds[1] is AxisKind.LINEAR and slow.velocity[1] == 2


def test_a_gripper_beside_deltas_is_no_delta() -> None:
    """As of the bundled model: its limits leave room around 0 and 1, and max_change does not span that."""
    spec = LimitsSpec((-0.02, -0.1), (0.02, 1.1), (0.04, 0.3))
    limits = MotionLimits.of(spec, replace(ARM, convention="delta_ee"))
    assert limits.kinds == (AxisKind.LINEAR, AxisKind.DISCRETE)
    assert limits.is_delta == (True, False)
    assert (limits.low[1], limits.high[1]) == (-0.1, 1.1)


def test_new_fields_are_left_out_of_the_file_while_nobody_sets_them() -> None:
    assert set(to_json(BOUNDS)) == {"low", "high", "max_change"}
    full = replace(BOUNDS, margin=(0.1, 0.0), velocity=(0.5, 9.0), acceleration=(3.0, 9.0), jerk=(50.0, 9.0))
    assert from_json(LimitsSpec, to_json(full)) == full
    limits = MotionLimits.of(full, ARM)
    assert (limits.low[0], limits.high[0]) == (-0.9, 0.9)
    assert (limits.velocity[0], limits.acceleration[0], limits.jerk[0]) == (0.5, 3.0, 50.0)


def test_deltas_have_a_speed_an_acceleration_and_no_position() -> None:
    limits = MotionLimits.of(POSE_LIMITS, POSE)
    assert limits.is_delta == (True,) * 6 + (False,)
    assert limits.low[:6] == (-inf,) * 6
    assert limits.velocity == pytest.approx((0.2, 0.2, 0.1, 1, 1, 1, inf))
    assert limits.acceleration == pytest.approx((3.0,) * 6 + (inf,))
    assert limits.rotation_starts == (3,)


def test_an_angle_that_turns_round_has_no_end() -> None:
    for half, low in ((pi, -inf), (2.0, -2.0)):
        spec = LimitsSpec((-half, 0.0), (half, 1.0), (0.05, 1.0), kinds=("angle", "discrete"))
        assert MotionLimits.of(spec, ARM).low[0] == low


@pytest.mark.parametrize(
    ("limits", "action", "message"),
    [
        (BOUNDS, replace(ARM, convention="joint_velocity"), "found the convention 'joint_velocity'"),
        (replace(POSE_LIMITS, low=(0.005,) * 3 + (-0.1,) * 3 + (0.0,)), POSE, "a delta's limits around 0"),
    ],
)  # fmt: skip
def test_limits_that_make_no_sense_are_refused_by_name(
    limits: LimitsSpec, action: ActionSpec, message: str
) -> None:
    with pytest.raises(ManifestError, match=re.escape(message)):
        MotionLimits.of(limits, action)


def test_the_manifest_wants_one_number_for_each_dimension() -> None:
    with pytest.raises(ManifestError, match="expected jerk for none or for each of 2 dimensions"):
        replace(BOUNDS, jerk=(1.0,))


def test_an_operator_narrows() -> None:
    limits = MotionLimits.of(BOUNDS, ARM)
    narrow = limits.narrowed(OperatorLimits(low=(-0.5, None), velocity=(0.25, None), jerk=(40.0, None)))
    assert (narrow.low, narrow.velocity, narrow.jerk) == ((-0.5, 0), (0.25, inf), (40, inf))
    assert limits.narrowed(OperatorLimits()) == limits


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (OperatorLimits(low=(-1.1, None)), "'shoulder': expected low within the bundle's -1, found -1.1"),
        (OperatorLimits(high=(None, 1.5)), "'gripper': expected high within the bundle's 1, found 1.5"),
        (
            OperatorLimits(velocity=(1.5, None)),
            "'shoulder': expected velocity within the bundle's 1, found 1.5",
        ),
        (OperatorLimits(velocity=(float("nan"), None)), "expected velocity within the bundle's 1, found nan"),
        (OperatorLimits(velocity=(-1.0, None)), "expected velocity > 0, found -1"),
        (OperatorLimits(high=(-1.0, None)), "limits of the operator: axis 'shoulder': expected positions"),
        (OperatorLimits(jerk=(1.0,)), "jerk: expected one for each of ['shoulder', 'gripper'], found [1.0]"),
    ],
)
def test_an_operator_never_widens(operator: OperatorLimits, message: str) -> None:
    with pytest.raises(LimitsError, match=re.escape(message)):
        MotionLimits.of(BOUNDS, ARM).narrowed(operator)


def test_a_delta_has_no_position_to_narrow() -> None:
    with pytest.raises(LimitsError, match="'x': expected no high, since a delta"):
        MotionLimits.of(POSE_LIMITS, POSE).narrowed(OperatorLimits(high=(0.5,) + (None,) * 6))
