"""Pictures to a square with their aspect kept and the rest black, as part of the graph: the same pixels everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from saccade.export.models.bilinear import resample
from saccade.export.models.pixel_resize import PixelResize
from saccade.proto.picture_fit import Resample


@dataclass(frozen=True)
class Letterbox:
    """How pictures of one size become pictures of another.

    Args:
        before: Height and width as the camera gives them, pixels.
        after: Height and width of the result.
        is_centred: Black on both sides, an odd rest right and below (π0); False: on the left and above (SmolVLA).
        is_antialiased: Pillow's bilinear kernel, whole levels (openpi); False: torch's interpolation (lerobot).

    Source:
        lerobot 0.6.1, ``resize_with_pad_torch`` and ``resize_with_pad``: bilinear, not antialiased. openpi 15a9616,
        ``transforms.ResizeImages``: ``image_tools.resize_with_pad``, Pillow's.
    """

    before: tuple[int, int]
    after: tuple[int, int]
    is_centred: bool
    is_antialiased: bool = False

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width of the picture within the result."""
        ratio = max(self.before[1] / self.after[1], self.before[0] / self.after[0])
        return int(self.before[0] / ratio), int(self.before[1] / ratio)

    @property
    def _resize(self) -> PixelResize:
        return PixelResize(self.before, self.resized, Resample.BILINEAR)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one picture."""
        if self.before == self.after:
            return 0
        if self.is_antialiased:
            return self._resize.macs
        (height, width), (rows, columns) = self.before, self.resized
        return 3 * rows * width * (height + columns)

    def __call__(self, pixels: Tensor) -> Tensor:
        """(images, height, width, 3) -> the same at the new height and width; rounded only where antialiased."""
        if self.before == self.after:
            return pixels
        if self.is_antialiased:
            inside = self._resize(pixels)
        else:
            inside = resample(pixels.flatten(1, 2), self.before, self.resized).unflatten(1, self.resized)
        rest = [whole - part for whole, part in zip(self.after, self.resized, strict=True)]
        top, left = (side // 2 if self.is_centred else side for side in rest)
        return F.pad(inside, (0, 0, left, rest[1] - left, top, rest[0] - top))
