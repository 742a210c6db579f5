import re
from itertools import product

import numpy as np
import pytest

from saccade.proto.axis_kind import AxisKind
from saccade.proto.errors import InputError
from saccade.runtime.motion.tight_limits import TightLimits
from tests.runtime.motion.divided_differences import difference
from tests.runtime.motion.limits_samples import limits_of


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_margin_is_what_the_worst_rounding_does_to_a_difference(order: int) -> None:
    tight = TightLimits(limits_of(1, low=-0.7, high=0.7), 0.01, 0.03)
    ulp = float(np.spacing(np.float32(0.7 * 1.2)))
    worst = max(
        abs(difference(order, np.array(signs) * ulp / 2, np.array(steps))[0])
        for signs in product([-1, 1], repeat=order + 1)
        for steps in product([0.01, 0.02], repeat=order)
    )
    left = (tight.curve_velocity, tight.curve_acceleration, tight.curve_jerk)[order - 1][0]
    own = (1.0, 5.0, 100.0)[order - 1]
    assert own - 1.1 * worst - 1e-6 <= left <= own - worst


def test_positions_are_float32_and_inside() -> None:
    tight = TightLimits(limits_of(1, low=-0.1, high=0.1), 0.01, 0.03)
    for bound, own in ((tight.low[0], -0.1), (tight.high[0], 0.1)):
        assert bound == np.float32(bound) and abs(bound) <= abs(own) and abs(bound - own) < 1e-8


def test_a_rotation_shares_the_smallest_of_its_limits_by_length() -> None:
    limits = limits_of(3, AxisKind.AXIS_ANGLE)
    object.__setattr__(limits, "velocity", (3.0, 1.0, 2.0))
    assert np.linalg.norm(TightLimits(limits, 0.01, 0.03).velocity) == pytest.approx(1.0)


@pytest.mark.parametrize("bound", [1e4, 1e39])
def test_limits_that_float32_cannot_tell_are_refused(bound: float) -> None:
    with pytest.raises(InputError, match=re.escape("float32 commands 0.5 ms apart")):
        TightLimits(limits_of(1, low=-bound, high=bound), 0.0005, 0.03)
    free = limits_of(1, low=-bound, high=bound, acceleration=np.inf, jerk=np.inf)
    assert TightLimits(free, 0.0005, 0.03).curve_velocity[0] == pytest.approx(1)
