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
    x = torch.randn(2, 3, before[0] * before[1], 8, generator=torch.Generator().manual_seed(0))
    images = x.reshape(6, *before, 8).permute(0, 3, 1, 2)
    expected = functional.interpolate(images, size=after, mode="bilinear").permute(0, 2, 3, 1)
    # Both take places in float32, and may round the last bit of one otherwise: some 1e-5 of a pixel at 100 places.
    torch.testing.assert_close(resample(x, before, after), expected.reshape(2, 3, -1, 8), atol=5e-5, rtol=0)


def test_weights_of_a_place_add_up_to_one() -> None:
    assert bilinear_weights(4, 2) == [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]
    assert bilinear_weights(1, 3) == [[1.0]] * 3
    assert all(abs(sum(row) - 1.0) < 1e-12 for row in bilinear_weights(27, 14))
