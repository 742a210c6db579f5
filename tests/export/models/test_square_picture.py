"""The crop in the graph is the published one, on pictures of the published size too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from saccade.export.models.pixel_resize import PixelResize
from saccade.export.models.square_picture import SquarePicture, crop_centre
from saccade.proto.picture_fit import Resample
from tests.export.centre_crop import centre_crop
from tests.export.families.published import pictures


@pytest.mark.parametrize(("side", "share"), [(224, 0.9), (28, 0.9), (28, 0.5)])
def test_the_crop_is_the_published_one(side: int, share: float) -> None:
    images = pictures(2, side, side, seed=side)
    found = crop_centre(torch.from_numpy(images).float(), share).numpy()
    off = np.abs(found - centre_crop(images, share).astype(np.float32))
    assert off.max() <= 1 and (off > 0).mean() < 1e-4  # a level on the edge may fall on either side of it
    assert np.abs(found - images).mean() > 10


def test_a_plain_picture_keeps_its_level() -> None:
    levels = torch.arange(256.0).reshape(-1, 1, 1, 1).expand(-1, 12, 12, 3)
    torch.testing.assert_close(crop_centre(levels, 0.9), levels, atol=0, rtol=0)


def test_a_picture_is_stretched_before_it_is_cropped() -> None:
    images = torch.from_numpy(pictures(1, 20, 36)).float()
    square = SquarePicture((20, 36), 28, 0.9, Resample.BICUBIC, rounds_each_side=True)
    stretched = PixelResize((20, 36), (28, 28), Resample.BICUBIC)(images)
    torch.testing.assert_close(square(images), crop_centre(stretched, 0.9), atol=0, rtol=0)
    assert SquarePicture((28, 28), 28, 1.0, Resample.BICUBIC, rounds_each_side=True).macs == 0
