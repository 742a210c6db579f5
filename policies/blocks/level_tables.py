"""Tables of grid sizes for the view that ranks first, second, ...: from all alike to steep, all of one total.

A graph has a fixed number of tokens, and QuoTA's budgets follow scores. So the host's rule is worked out beforehand for
a few ratios between ranks, and the graph chooses the table that is nearest to the shares it sees.

Source:
    QuoTA (2503.08689); that there are tables, and how sizes fill a total exactly, is our own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from saccade.policies.base import Grid
from saccade.policies.blocks.view_budgets import Size, clipped_shares, grid_size, tokens_of
from saccade.proto.errors import PolicyError

Table = tuple[Size, ...]
"""Grid size of the view that ranks first, second, ...; never growing in tokens."""

_MOST_STRETCHED = 2
"""Longer side over shorter side of a grid at most, where the view itself has room."""


def level_total(budget: int, grid: Grid) -> int:
    """Return how many tokens every table of a budget has: what equal views have by the published rules.

    A budget below one patch for each view buys patches for some of them.

    Args:
        budget: How many tokens all views may have together, line breaks included.
        grid: How visual tokens tile the views.

    Raises:
        PolicyError: The budget does not buy one patch.
    """
    breaks = int(grid.newline)
    least = 1 + breaks
    if budget < least:
        raise PolicyError(
            f"expected a budget of at least {least} tokens, one patch{' and its line break' * breaks}, found {budget}."
        )
    alike = grid_size(budget // grid.views, grid.rows, grid.columns - breaks, breaks)
    return grid.views * tokens_of([alike], grid) or budget // least * least


@lru_cache(maxsize=64)
def level_tables(total: int, grid: Grid, spreads: tuple[float, ...]) -> tuple[Table, ...]:
    """Return a table for each spread, all of exactly ``total`` tokens; two that come out alike are one.

    The r-th rank's share is ``spread ** r / sum``, clipped at the view's own grid. Of all sizes that make up the total
    the table has those with the smallest squared distance from these shares.

    Args:
        total: What :func:`level_total` returns for a budget.
        grid: How visual tokens tile the views.
        spreads: Shares of a rank relative to the one before, in (0, 1]; 1 = all alike.

    Raises:
        PolicyError: No budget has that total.
    """
    if total < 1 or level_total(min(total, grid.tokens), grid) != total:
        raise PolicyError(f"expected a number of tokens that some budget buys whole grids of, found {total}.")
    sizes = _sizes(grid)
    tables = []
    for spread in spreads:
        shares = [spread**rank for rank in range(grid.views)]
        clipped = clipped_shares([share / sum(shares) for share in shares], grid.per_view / total)
        counts = _nearest_counts(tuple(sizes), [total * share for share in clipped], total)
        tables.append(tuple(sizes[count] for count in sorted(counts, reverse=True)))
    return tuple(dict.fromkeys(tables))


def _sizes(grid: Grid) -> dict[int, Size]:
    """Return the squarest grid for each number of tokens that one can have, the taller of two; 0 leaves a view out."""
    breaks = int(grid.newline)
    columns = grid.columns - breaks
    found: dict[int, Size] = {0: (0, 0)}
    every = [(height, width) for height in range(1, grid.rows + 1) for width in range(1, columns + 1)]
    for height, width in sorted(every, key=lambda size: (abs(size[0] - size[1]), -size[0])):
        is_near = max(height, width) <= _MOST_STRETCHED * min(height, width)
        if is_near or height == grid.rows or width == columns:
            found.setdefault(height * (width + breaks), (height, width))
    return found


def _nearest_counts(counts: Sequence[int], wanted: Sequence[float], total: int) -> list[int]:
    """Choose a count for each rank, ``total`` together, least squares from what is wanted (dynamic programming)."""
    cost = np.full(total + 1, math.inf)
    cost[0] = 0.0
    chosen = np.zeros((len(wanted), total + 1), np.int64)
    for rank, target in enumerate(wanted):
        following = np.full(total + 1, math.inf)
        for count in counts:
            if count > total:
                continue
            reached = cost[: total + 1 - count] + (count - target) ** 2
            is_less = reached < following[count:]
            following[count:][is_less] = reached[is_less]
            chosen[rank, count:][is_less] = count
        cost = following
    found, left = [], total
    for rank in reversed(range(len(wanted))):
        found.append(int(chosen[rank, left]))
        left -= found[-1]
    return found
