"""Pictures resized as image libraries do it, as part of the graph: antialiased, in whole levels of 0 to 255."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.proto.picture_fit import Resample

MOST = 255.0
"""Highest level of a pixel."""


@dataclass(frozen=True)
class PixelResize:
    """How pictures of one size become pictures of another, whatever their aspect.

    Args:
        before: Height and width as they come, pixels.
        after: Height and width of the result.
        resample: How pixels are interpolated; the kernel widens where a side shrinks.
        rounds_each_side: Levels are rounded after the width was resized and again after the height, as Pillow does;
            False: once, at the end, as TensorFlow does.

    Source:
        Pillow 12's ``Image.resize`` (``Resample.c``), which torchvision calls too; TensorFlow 2's ``tf.image.resize``
        with ``antialias=True`` has the same kernels. Deviation: Pillow's weights are multiples of 2 to the -22.
    """

    before: tuple[int, int]
    after: tuple[int, int]
    resample: Resample
    rounds_each_side: bool = True

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one picture."""
        if self.before == self.after:
            return 0
        (height, width), (rows, columns) = self.before, self.after
        return 3 * height * columns * (width + rows)

    def __call__(self, pixels: Tensor) -> Tensor:
        """(images, height, width, 3) -> the same at the new height and width, whole numbers of 0 to 255."""
        if self.before == self.after:
            return pixels
        rows, columns = (
            pixels.new_tensor(antialiased_weights(*sides, self.resample))
            for sides in zip(self.before, self.after, strict=True)
        )
        wide = torch.matmul(columns, pixels)
        if self.rounds_each_side:
            wide = _rounded(wide)
        return _rounded(apply_to_rows(rows, wide))


def apply_to_rows(weights: Tensor, pixels: Tensor) -> Tensor:
    """Mix the rows of pictures.

    Args:
        weights: What each new row takes of each old one, ``(new rows, rows)``.
        pixels: Pictures, ``(images, rows, columns, 3)``.

    Returns:
        ``(images, new rows, columns, 3)``.
    """
    return torch.matmul(weights, pixels.flatten(-2)).unflatten(-1, (-1, pixels.shape[-1]))


def antialiased_weights(before: int, after: int, resample: Resample) -> list[list[float]]:
    """Return what each of ``after`` places takes of each of ``before`` places; each row adds up to one.

    Args:
        before: Places of the side as it comes.
        after: Places of the result.
        resample: Kernel; it is as many times wider as the side shrinks.
    """
    radius, kernel = _KERNELS[resample]
    scale = before / after
    widened = max(scale, 1.0)
    centres = (np.arange(after) + 0.5)[:, None] * scale
    offsets = np.arange(before)[None, :] + 0.5 - centres
    weights = np.where(np.abs(offsets) < radius * widened, kernel(offsets / widened), 0.0)
    found: list[list[float]] = (weights / weights.sum(axis=1, keepdims=True)).tolist()
    return found


def _rounded(levels: Tensor) -> Tensor:
    """Round to whole levels, halves up, and keep them within 0 to 255."""
    return torch.floor(levels + 0.5).clamp(0.0, MOST)


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic with a = -1/2."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1.0, ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _lanczos(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(x) < 3.0, np.sinc(x) * np.sinc(x / 3.0), 0.0)


_KERNELS: Mapping[Resample, tuple[float, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = {
    Resample.BILINEAR: (1.0, _triangle),
    Resample.BICUBIC: (2.0, _cubic),
    Resample.LANCZOS: (3.0, _lanczos),
}
"""Radius and shape of each kernel, in places of the smaller side."""
