"""Which tokens of a grid are patches and which are line breaks (LLaVA's ``image_newline``)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from saccade.policies.base import Grid


def is_line_break(grid: Grid) -> Bool[Tensor, " tokens"]:
    """Mark the tokens that stand for the end of a row; none unless ``grid.newline``."""
    column = torch.arange(grid.tokens) % grid.columns
    return (column == grid.columns - 1) & torch.tensor(grid.newline)


def patch_indices(grid: Grid) -> Int64[Tensor, " patches"]:
    """Return the indices of the tokens that are patches, ascending."""
    return torch.arange(grid.tokens).reshape(-1, grid.columns)[:, : patch_columns(grid)].flatten()


def line_break_indices(grid: Grid) -> Int64[Tensor, " breaks"]:
    """Return the indices of the tokens that are line breaks, ascending."""
    return torch.arange(grid.tokens).reshape(-1, grid.columns)[:, patch_columns(grid) :].flatten()


def patch_columns(grid: Grid) -> int:
    """Return the number of columns that are patches."""
    return grid.columns - int(grid.newline)
