import re
from dataclasses import replace
from typing import Any

import pytest

from saccade.proto.errors import ManifestError
from saccade.proto.manifest import LimitsSpec

BOUNDS = LimitsSpec((-1.0, 0.0), (1.0, 1.0), (0.05, 1.0))
NAN = float("nan")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": (NAN, 0.0)}, "expected low < high"),
        ({"max_change": (NAN, 1.0)}, "expected max_change > 0"),
        ({"max_change": (1.0,)}, "of one length"),
        ({"margin": (1.0, 0.0)}, "margin: expected positions to be left between the margins, found 1 for axis 0"),
        ({"margin": (0.0, -1.0)}, "margin: expected 0 or more and finite, found -1 for axis 1"),
        ({"margin": (NAN, 0.0)}, "margin: expected 0 or more and finite, found nan"),
        ({"jerk": (0.0, 1.0)}, "jerk: expected above 0, found 0 for axis 0"),
        ({"velocity": (1.0, NAN)}, "velocity: expected above 0, found nan for axis 1"),
        ({"acceleration": (1.0,)}, "expected acceleration for none or for each of 2 dimensions"),
        ({"kinds": ("hinge", "linear")}, "expected each one of linear, angle"),
        ({"kinds": ("axis_angle", "axis_angle")}, "three axes in a row for each axis_angle, found 2"),
    ],
)  # fmt: skip
def test_limits_that_contradict_themselves_cannot_be_written_down(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ManifestError, match=re.escape(message)):
        replace(BOUNDS, **changes)


def test_what_a_robot_can_keep_passes() -> None:
    full = replace(
        BOUNDS,
        margin=(0.1, 0.0),
        velocity=(0.5, 9.0),
        acceleration=(3.0, 9.0),
        jerk=(50.0, 9.0),
        kinds=("angle", "discrete"),
    )
    assert full.kinds == ("angle", "discrete")
