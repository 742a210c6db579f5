"""Bilinear resampling of a grid of tokens as two matrix products: constants and MatMul, which every engine takes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def resample(x: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
    """Resample a grid of tokens.

    Args:
        x: Tokens of the grid, ``(..., rows * columns, channels)``, row-major.
        before: Rows and columns of ``x``.
        after: Rows and columns of the result.

    Returns:
        ``(..., rows * columns, channels)``, in the dtype of ``x``.

    Source:
        ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``, without antialiasing.
    """
    rows, columns = (
        x.new_tensor(bilinear_weights(*sides)) for sides in zip(before, after, strict=True)
    )  # (after, before)
    x = torch.matmul(rows, x.unflatten(-2, before).flatten(-2))
    return torch.matmul(columns, x.unflatten(-1, (before[1], -1))).flatten(-3, -2)


def bilinear_weights(before: int, after: int) -> list[list[float]]:
    """Return what each of ``after`` places takes of each of ``before`` places; each row adds up to one.

    Places are taken in float32, as torch takes them for float32 pictures.
    """
    weights = [[0.0] * before for _ in range(after)]
    half = np.float32(0.5)
    sources = np.float32(before / after) * (np.arange(after, dtype=np.float32) + half) - half
    for source, row in zip(sources.clip(min=0).tolist(), weights, strict=True):
        low = int(source)
        row[low] += 1.0 - (source - low)
        row[min(low + 1, before - 1)] += source - low
    return weights
