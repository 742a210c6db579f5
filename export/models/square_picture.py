"""Pictures to the square that towers take: stretched, then cropped to their middle, as part of the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from saccade.export.models.pixel_resize import MOST, PixelResize, apply_to_rows
from saccade.proto.picture_fit import Resample


@dataclass(frozen=True)
class SquarePicture:
    """How a camera's picture becomes what the towers of OpenVLA and OpenVLA-OFT look at.

    Args:
        camera: Height and width of the pictures as they come, pixels.
        side: Side of the square, pixels.
        crop: Share of the square's area that is looked at, its middle, stretched back; 1 = all of it.
        resample: How pixels are interpolated where the camera's size is another.
        rounds_each_side: How levels are rounded there, see :class:`PixelResize`.
    """

    camera: tuple[int, int]
    side: int
    crop: float
    resample: Resample
    rounds_each_side: bool

    @property
    def resize(self) -> PixelResize:
        """How the camera's picture becomes the square."""
        return PixelResize(self.camera, (self.side,) * 2, self.resample, self.rounds_each_side)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one picture."""
        return self.resize.macs + (6 * self.side**3 if self.crop < 1 else 0)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Bring pictures ``(images, height, width, 3)``, 0 to 255, to ``(images, side, side, 3)``."""
        square = self.resize(pixels)
        return square if self.crop >= 1 else crop_centre(square, self.crop)


def crop_centre(pixels: Tensor, share: float) -> Tensor:
    """Look at the middle of squares, stretched back to their size.

    Args:
        pixels: Squares, ``(images, side, side, 3)``, 0 to 255.
        share: Share of the area that stays.

    Returns:
        ``(images, side, side, 3)``, whole levels: rounded down, as TensorFlow's cast does.

    Source:
        openvla/openvla and moojink/openvla-oft, ``experiments/robot/openvla_utils.py``: ``center_crop_image`` and
        ``crop_and_resize``, which are ``tf.image.crop_and_resize`` and ``tf.image.convert_image_dtype``.
    """
    weights = pixels.new_tensor(crop_weights(pixels.shape[1], share))
    inside = apply_to_rows(weights, torch.matmul(weights, pixels))
    return torch.floor(inside * ((MOST + 0.5) / MOST)).clamp(0.0, MOST)


def crop_weights(side: int, share: float) -> list[list[float]]:
    """Return what each place of a side takes of each place of it, once it is cropped; each row adds up to one.

    Places are computed in float32, as TensorFlow does.

    Args:
        side: Places of the side, before and after.
        share: Share of the square's area that stays, so that of a side its square root stays.
    """
    one, kept = np.float32(1), np.sqrt(np.float32(share))
    first = (one - kept) / np.float32(2)
    last = first + kept
    step = (last - first) * np.float32(side - 1) / np.float32(max(side - 1, 1))
    places = first * np.float32(side - 1) + np.arange(side, dtype=np.float32) * step
    weights = [[0.0] * side for _ in range(side)]
    for place, row in zip(places, weights, strict=True):
        low = int(np.floor(place))
        part = float(place - np.float32(low))
        row[low] += 1.0 - part
        row[int(np.ceil(place))] += part
    return weights
