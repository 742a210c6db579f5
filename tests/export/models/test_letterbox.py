"""Letterboxing in the graph equals lerobot's, formula for formula, and openpi's, level for level."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from saccade.export.models.letterbox import Letterbox
from tests.export.families.published import pictures


def by_torch(pixels: Tensor, after: tuple[int, int], *, is_centred: bool) -> Tensor:
    """Resize with torch's bilinear interpolation and pad, as lerobot 0.6.1 does."""
    height, width = pixels.shape[1:3]
    ratio = max(width / after[1], height / after[0])
    size = int(height / ratio), int(width / ratio)
    resized = F.interpolate(pixels.permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=False)
    rows, columns = after[0] - size[0], after[1] - size[1]
    top, left = (rows // 2, columns // 2) if is_centred else (rows, columns)
    return F.pad(resized, (left, columns - left, top, rows - top)).permute(0, 2, 3, 1)


@pytest.mark.parametrize("is_centred", [True, False])
@pytest.mark.parametrize(
    ("before", "after"),
    [((48, 64), (28, 28)), ((64, 48), (32, 32)), ((17, 31), (29, 29)), ((9, 9), (12, 12)), ((7, 5), (4, 6))],
)
def test_pixels_are_torchs(before: tuple[int, int], after: tuple[int, int], is_centred: bool) -> None:
    pixels = torch.randint(0, 256, (2, *before, 3), generator=torch.Generator().manual_seed(0)).float()
    found = Letterbox(before, after, is_centred)(pixels)
    torch.testing.assert_close(found, by_torch(pixels, after, is_centred=is_centred), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("before", "after"), [((48, 64), (28, 28)), ((17, 31), (29, 29))])
def test_antialiased_pixels_are_pillows(before: tuple[int, int], after: tuple[int, int]) -> None:
    """As openpi's ``image_tools.resize_with_pad``."""
    image = pictures(1, *before)
    box = Letterbox(before, after, is_centred=True, is_antialiased=True)
    ratio = max(before[1] / after[1], before[0] / after[0])
    height, width = int(before[0] / ratio), int(before[1] / ratio)
    theirs = Image.new("RGB", after[::-1], 0)
    place = int((after[1] - width) / 2), int((after[0] - height) / 2)
    theirs.paste(Image.fromarray(image[0]).resize((width, height), Image.Resampling.BILINEAR), place)
    pixels = torch.from_numpy(image).float()
    found = box(pixels)[0].numpy()
    off = np.abs(found - np.asarray(theirs, np.float32))
    assert off.max() <= 1 and (off > 0).mean() < 0.02  # halves fall on either side of Pillow's whole weights
    assert np.abs(Letterbox(before, after, is_centred=True)(pixels)[0].numpy() - found).max() > 20
    assert box.macs == 3 * before[0] * width * (before[1] + height)


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    pixels = torch.zeros(1, 8, 8, 3)
    same = Letterbox((8, 8), (8, 8), is_centred=True)
    assert same(pixels) is pixels and same.macs == 0
