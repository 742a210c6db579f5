"""Recycling of dropped tokens: those of a cell of the grid live on as one, where its most important member was."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from saccade.policies.base import Grid
from saccade.policies.blocks.merging import NOWHERE, slots_of, weighted_means
from saccade.policies.blocks.selection import keep_top_k, ranks


def cells_of(grid: Grid, side: float) -> tuple[int, ...]:
    """Return the cell of each token: cells are ``side`` x ``side`` patches of one view.

    ``side`` may be fractional: row r lies in cell row floor(r / side). A line break lies ``NOWHERE``.
    """
    patches = grid.columns - int(grid.newline)
    down = math.floor((grid.rows - 1) / side) + 1
    across = math.floor((patches - 1) / side) + 1
    return tuple(
        (view * down + math.floor(row / side)) * across + math.floor(column / side)
        if column < patches
        else NOWHERE
        for view in range(grid.views)
        for row in range(grid.rows)
        for column in range(grid.columns)
    )


def keep_and_recycle(
    importance: Float[Tensor, "batch alive"], cells: Sequence[int], keep: int, reserved: int
) -> tuple[Int64[Tensor, "batch {keep}"], Float[Tensor, "batch {keep} alive"]]:
    """Keep the most important tokens and merge the others, cell by cell.

    ``keep - reserved`` tokens survive by rank. Of each cell with other members the most important one survives as
    their mean, weighted by importance: all cells, or the ``reserved`` best where there are more. If there are fewer,
    their slots go to the next best tokens, which survive as themselves.

    Args:
        importance: How much each token matters, finite. What is negative weighs 0 in a mean.
        cells: Cell that each token lies in, as :func:`cells_of` gives them.
        keep: How many tokens survive, merged ones included.
        reserved: How many of the survivors are merged ones, at most.

    Returns:
        The survivors, ascending, and their mix.
    """
    alive = importance.shape[1]
    cell = torch.tensor(cells, device=importance.device)
    token = torch.arange(alive, device=importance.device)
    number = torch.arange(max(cells) + 1, device=importance.device)
    place = ranks(importance)
    direct = place < keep - reserved
    members = (cell == number.unsqueeze(1)) & ~direct.unsqueeze(1)  # batch, cells, alive
    best, head = torch.where(members, -place.unsqueeze(1), -torch.inf).max(dim=2)
    filled = best > -torch.inf
    is_head = ((token == head.unsqueeze(2)) & filled.unsqueeze(2)).float().amax(dim=1)
    tier = torch.where(direct, 2.0, is_head)
    kept = keep_top_k(tier * alive - place, keep)
    slots = slots_of(kept, alive)
    into_cell = torch.where(filled, torch.gather(slots, 1, head), NOWHERE)
    taken = torch.where(cell == NOWHERE, NOWHERE, into_cell[:, cell.clamp(min=0)])
    into = torch.where(slots == NOWHERE, taken, slots)
    return kept, weighted_means(into, importance, kept)
