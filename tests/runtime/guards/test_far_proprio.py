"""Units that are not the data set's are noticed; what the data set may have had is not."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.proto.errors import ProprioError
from saccade.proto.scales import MeanStdScale, RangeScale, Scale
from saccade.runtime.guards.far_proprio import FarProprio

NAMES = ("shoulder", "elbow", "gripper")
F32 = np.float32


def row(*values: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array(values, F32)


RANGE = RangeScale(row(-1, -0.5, 0.2), row(1, 1.5, 0.2), np.array([True, False, True]))
GAUSS = MeanStdScale(row(0, 0.5, 0.2), row(0.5, 0.5, 0))


@pytest.mark.parametrize("scale", [RANGE, GAUSS], ids=["range", "mean_std"])
def test_degrees_for_radians_are_named(scale: Scale) -> None:
    far = FarProprio(scale, NAMES)
    radians = row(0.8, -0.4, 0.2)
    assert far.find(radians) == ()
    assert far.find(row(*np.degrees(radians[:2]), 0.2)) == ("shoulder", "elbow")
    assert far.find(row(3, 3.5, 0.2)) == (), "one whole range beyond"
    assert far.find(row(-3.01, 3.51, 0.2)) == ("shoulder", "elbow")
    assert far.find(row(0, 0, 9)) == (), "never varied: nothing is known of other values"


def test_they_can_be_refused() -> None:
    far = FarProprio(RANGE, NAMES, is_refused=True)
    assert far.find(row(1, 1, 1)) == ()
    with pytest.raises(
        ProprioError, match=r"'shoulder' = 45\.8 where -1 to 1 is usual: .* \(degrees for radians\?\)"
    ):
        far.find(row(45.8, 0, 0))


def test_what_the_mask_passes_may_have_no_bounds() -> None:
    scale = RangeScale(row(-np.inf, np.nan), row(np.inf, np.nan), np.array([False, False]))
    assert FarProprio(scale, ("x", "y")).find(row(1e30, -1e30)) == ()
