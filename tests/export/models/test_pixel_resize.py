"""Resizing in the graph equals Pillow's, level for level, and TensorFlow's antialiased kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from saccade.export.models.pixel_resize import PixelResize
from saccade.proto.picture_fit import Resample
from tests.export.families.published import pictures

SIZES = [((48, 64), (28, 28)), ((17, 31), (40, 29)), ((20, 28), (20, 14))]


@pytest.mark.parametrize("resample", Resample)
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_levels_are_pillows(before: tuple[int, int], after: tuple[int, int], resample: Resample) -> None:
    image = pictures(1, *before)
    found = PixelResize(before, after, resample)(torch.from_numpy(image).float())[0].numpy()
    theirs = Image.fromarray(image[0]).resize(after[::-1], Image.Resampling[resample.name])
    off = np.abs(found - np.asarray(theirs, np.float32))
    assert off.max() <= 1 and (off > 0).mean() < 0.01  # halves fall on either side of Pillow's whole weights


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_levels_rounded_once_are_those_of_the_kernel(before: tuple[int, int], after: tuple[int, int]) -> None:
    image = pictures(1, *before)
    resize = PixelResize(before, after, Resample.LANCZOS, rounds_each_side=False)
    found = resize(torch.from_numpy(image).float())[0].numpy()
    planes = [
        Image.fromarray(image[0, :, :, channel].astype(np.float32)).resize(
            after[::-1], Image.Resampling.LANCZOS
        )
        for channel in range(3)
    ]  # of floats, which Pillow does not round
    exact = np.stack([np.asarray(plane) for plane in planes], axis=-1).clip(0, 255)
    assert np.abs(found - exact).max() <= 0.501 and (found == np.round(found)).all()


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    pixels = torch.zeros(1, 8, 8, 3)
    same = PixelResize((8, 8), (8, 8), Resample.BICUBIC)
    assert same(pixels) is pixels and same.macs == 0
