"""Bilinear resampling by matrix products equals torch's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from saccade.export.models.bilinear import bilinear_weights, resample

SIDES = (
    *(((27, 27), (14, 14)), ((24, 24), (12, 12)), ((108, 81), (93, 70))),
    *(((5, 3), (5, 2)), ((4, 6), (1, 1)), ((2, 3), (7, 5))),
)


@pytest.mark.parametrize(("before", "after"), SIDES)
def test_equals_interpolate(before: tuple[int, int], after: tuple[int, int]) -> None:
    x = torch.randn(
        2, 3, before[0] * before[1], 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    images = x.reshape(6, *before, 8).permute(0, 3, 1, 2)
    expected = functional.interpolate(images, size=after, mode="bilinear").permute(0, 2, 3, 1)
    expected = expected.reshape(2, 3, -1, 8)
    torch.testing.assert_close(resample(x, before, after), expected, atol=1e-12, rtol=0)
    # In float32 torch's own weights are off by some 1e-5 at 100 places; ours are rounded once.
    torch.testing.assert_close(resample(x.float(), before, after), expected.float(), atol=1e-6, rtol=1e-5)


def test_weights_of_a_place_add_up_to_one() -> None:
    assert bilinear_weights(4, 2) == [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]
    assert bilinear_weights(1, 3) == [[1.0]] * 3
    assert all(abs(sum(row) - 1.0) < 1e-12 for row in bilinear_weights(27, 14))
