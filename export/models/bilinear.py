"""Bilinear resampling of a grid of tokens as two matrix products: constants and MatMul, which every engine takes."""

from __future__ import annotations

import torch
from torch import Tensor


def resample(x: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
    """Resample a grid of tokens.

    Args:
        x: ``(..., rows * columns, channels)``, row-major.
        before: Its rows and columns.
        after: What they become.

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
    """Return what each of ``after`` places takes of each of ``before`` places; each row adds up to one."""
    weights = [[0.0] * before for _ in range(after)]
    for place, row in enumerate(weights):
        source = max((place + 0.5) * before / after - 0.5, 0.0)
        low = int(source)
        row[low] += 1.0 - (source - low)
        row[min(low + 1, before - 1)] += source - low
    return weights
