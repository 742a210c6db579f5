"""Resampling of a view's tokens to a smaller grid, as one matrix: each output token a weighted mean of input tokens.

An output token lives at the position of the input token nearest to its centre: token i of ``count`` along a side of
``size`` tokens has its centre at (i + 1/2) size / count. With count <= size no two share a position.

Source:
    QuoTA (2503.08689), its resampling modes; the merge is that of ToMe (2210.09461).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from saccade.policies.base import Grid
from saccade.policies.blocks.diversity import DISTANCE_STEPS, unit_vectors
from saccade.policies.blocks.line_breaks import patch_columns
from saccade.policies.blocks.merging import slots_of
from saccade.policies.blocks.selection import indices_of, top_k_mask

Side = npt.NDArray[np.float64]
"""``(count, size)``: what the output tokens along one side are made of."""


def nearest(size: int, count: int) -> list[int]:
    """Return the input token nearest to each output token along one side."""
    return [(2 * i + 1) * size // (2 * count) for i in range(count)]


def even_side(size: int, count: int) -> Side:
    """Sub-sampling at even distances: each output token is the nearest input token."""
    return np.eye(size)[nearest(size, count)]


def bilinear_side(size: int, count: int) -> Side:
    """Linear interpolation between the two input tokens around each centre (corners not aligned, no antialiasing)."""
    matrix = np.zeros((count, size))
    for i in range(count):
        centre = max((i + 0.5) * size / count - 0.5, 0.0)
        below = min(int(centre), size - 1)
        matrix[i, below] += 1.0 - (centre - below)
        matrix[i, min(below + 1, size - 1)] += centre - below
    return matrix


def adaptive_side(size: int, count: int) -> Side:
    """Adaptive average pooling: the mean over floor(i size / count) .. ceil((i + 1) size / count)."""
    matrix = np.zeros((count, size))
    for i in range(count):
        start, end = i * size // count, math.ceil((i + 1) * size / count)
        matrix[i, start:end] = 1.0 / (end - start)
    return matrix


SIDES: Mapping[str, Callable[[int, int], Side]] = {
    "bilinear": bilinear_side,
    "adaptive": adaptive_side,
    "even": even_side,
}
"""Ways of resampling that do not look at the tokens; a view's matrix is the product of its two sides'."""


def level_positions(grid: Grid, height: int, width: int) -> Int64[Tensor, " count"]:
    """Return where the tokens of a smaller grid live in a view, ascending; each row ends with its line break."""
    columns = nearest(patch_columns(grid), width) + [grid.columns - 1] * int(grid.newline)
    return torch.tensor(
        [row * grid.columns + column for row in nearest(grid.rows, height) for column in columns]
    )


def level_matrix(mode: str, grid: Grid, height: int, width: int) -> Float[Tensor, "count per_view"]:
    """Return what the tokens of a smaller grid are made of; a line break is that of the nearest row.

    Args:
        mode: How a side is resampled, one of ``SIDES``.
        grid: The token grid; one view of it is resampled.
        height: How many rows the smaller grid has.
        width: How many patch columns the smaller grid has.
    """
    side, patches, breaks = SIDES[mode], patch_columns(grid), int(grid.newline)
    across = np.zeros((width + breaks, grid.columns))
    across[:width, :patches] = side(patches, width)
    matrix = np.kron(side(grid.rows, height), across)
    if breaks:
        across = np.zeros_like(across)
        across[-1, -1] = 1.0
        matrix += np.kron(even_side(grid.rows, height), across)
    # From plain numbers: a tracer sees one constant.
    return torch.tensor(matrix.tolist())


def merged_pairs(
    embeddings: Float[Tensor, "batch tokens dim"], count: int
) -> tuple[Int64[Tensor, "batch {count}"], Float[Tensor, "batch {count} tokens"]]:
    """Merge the most similar tokens pair by pair until ``count`` are left.

    In each round the tokens, in their order, are dealt to two sets in turn; each of the first set finds its most
    similar one in the second, and the most similar pairs become one token, their mean over all that went into them, at
    the position of the second. A round merges at most half of the tokens, so log2(tokens / count) rounds do.

    Args:
        embeddings: Vectors whose cosine is the similarity, in whole steps as for distances; what is not finite counts
            as 0.
        count: How many tokens are left, 1..tokens.

    Returns:
        Positions of the survivors, ascending, and what each is made of.
    """
    batch, tokens, _ = embeddings.shape
    clean = torch.where(embeddings.abs() < math.inf, embeddings, 0.0).float()
    place = torch.arange(tokens, device=embeddings.device).expand(batch, tokens)
    members = torch.eye(tokens, device=embeddings.device).expand(batch, tokens, tokens)
    while (alive := members.shape[1]) > count:
        left = max(count, alive - alive // 2)
        kept, joins = _merge_round(_means(members) @ clean, left)
        members = joins @ members
        place = torch.gather(place, 1, kept)
    return place, _means(members)


def _means(members: Tensor) -> Tensor:
    """Turn 0/1 membership ``(batch, alive, tokens)`` into means."""
    return members / members.sum(dim=2, keepdim=True)


def _merge_round(now: Tensor, left: int) -> tuple[Tensor, Tensor]:
    """Merge ``(batch, alive, dim)`` to ``left`` tokens: who stays, and who joins whom ``(batch, left, alive)``."""
    batch, alive, _ = now.shape
    unit = unit_vectors(now)
    likeness = torch.round(unit[:, 0::2] @ unit[:, 1::2].transpose(1, 2) * DISTANCE_STEPS)
    best, partner = likeness.max(dim=2)
    merges = top_k_mask(best, alive - left)
    goes = _dealt(merges.long(), alive).bool()
    target = _dealt(2 * partner + 1, alive)
    kept = indices_of(~goes, left)
    slots = slots_of(kept, alive)
    into = torch.where(goes, torch.gather(slots, 1, target), slots)
    number = torch.arange(left, device=now.device)
    return kept, (into.unsqueeze(1) == number.unsqueeze(1)).float().reshape(batch, left, alive)


def _dealt(first: Tensor, alive: int) -> Tensor:
    """Put values of the first set between zeros for the second: ``(batch, ceil(alive / 2))`` -> ``(batch, alive)``."""
    return torch.stack([first, torch.zeros_like(first)], dim=2).flatten(1)[:, :alive]
