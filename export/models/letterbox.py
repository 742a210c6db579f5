"""Pictures to a square with their aspect kept and the rest black, as part of the graph: the same pixels everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from saccade.export.models.bilinear import resample


@dataclass(frozen=True)
class Letterbox:
    """How pictures of one size become pictures of another.

    Args:
        before: Height and width as the camera gives them, pixels.
        after: Height and width of the result.
        is_centred: Black on both sides, an odd rest right and below (π0); False: on the left and above (SmolVLA).

    Source:
        lerobot 0.6.1, ``resize_with_pad_torch`` (openpi's) and ``resize_with_pad``: bilinear, not antialiased.
    """

    before: tuple[int, int]
    after: tuple[int, int]
    is_centred: bool

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width of the picture within the result."""
        ratio = max(self.before[1] / self.after[1], self.before[0] / self.after[0])
        return int(self.before[0] / ratio), int(self.before[1] / ratio)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one picture."""
        if self.before == self.after:
            return 0
        (height, width), (rows, columns) = self.before, self.resized
        return 3 * rows * width * (height + columns)

    def __call__(self, pixels: Tensor) -> Tensor:
        """(images, height, width, 3) -> the same at the new height and width; values are not rounded."""
        if self.before == self.after:
            return pixels
        inside = resample(pixels.flatten(1, 2), self.before, self.resized).unflatten(1, self.resized)
        rest = [whole - part for whole, part in zip(self.after, self.resized, strict=True)]
        top, left = (side // 2 if self.is_centred else side for side in rest)
        return F.pad(inside, (0, 0, left, rest[1] - left, top, rest[0] - top))
