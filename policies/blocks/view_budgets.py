"""How a budget of tokens is shared by views that do not matter equally, and what grid a view's share buys.

Plain Python: the published rules of QuoTA as they are. :mod:`saccade.policies.blocks.level_tables` makes of them what
stands for them in a graph, whose shapes cannot follow the scores.

Source:
    QuoTA (2503.08689); code MAC-AutoML/QuoTA, read at ec194d7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from saccade.policies.base import Grid

Size = tuple[int, int]
"""Rows and patch columns of a view's grid; (0, 0) leaves the view out."""

_ROUNDING = 1e-9


def view_shares(
    scores: Sequence[float], scale: int | float = 100.0, exponent: int | float = 2.0
) -> tuple[float, ...]:
    """Return each view's share of the budget: ``w = (scale * s) ** exponent``, ``p = w / sum w``.

    A score that is negative or not finite counts as 0; if all are 0, the shares are equal. ``scale`` is published and
    cancels out, up to rounding.
    """
    clean = [score if 0.0 < score < math.inf else 0.0 for score in scores]
    largest = max(clean, default=0.0)
    if largest == 0.0:
        return (1.0 / len(clean),) * len(clean) if clean else ()
    # Divided by the largest, so that no power overflows.
    weights = [(scale * (score / largest)) ** exponent for score in clean]
    return tuple(weight / sum(weights) for weight in weights)


def clipped_shares(shares: Sequence[float], limit: int | float) -> tuple[float, ...]:
    """Clip shares at ``limit`` and give the surplus to the views below it, in proportion to their shares.

    Repeated until no share exceeds the limit. What no view can take is lost.
    """
    given = list(shares)
    while any(share > limit + _ROUNDING for share in given):
        surplus = sum(share - limit for share in given if share > limit)
        below = sum(share for share in given if share < limit)
        growth = 1.0 + surplus / below if below > 0.0 else 1.0
        given = [share * growth if share < limit else limit for share in given]
    return tuple(given)


def grid_size(budget: int, rows: int, columns: int, line_breaks: int = 0) -> Size:
    """Return the largest nearly square grid that ``budget`` buys: h = w, then one row or column more if it fits.

    Args:
        budget: How many tokens the view may have, line breaks included.
        rows: How many rows of patches the view has; the grid grows along the other side once it is reached.
        columns: How many columns of patches the view has.
        line_breaks: How many line-break tokens each row of the grid costs besides, 0 or 1.
    """
    side = 0
    while (side + 1) * (side + 1 + line_breaks) <= budget:
        side += 1
    height, width = min(side, rows), min(side, columns)
    if side > rows:
        width = min(columns, budget // height - line_breaks)
    elif side > columns:
        height = min(rows, budget // (width + line_breaks))
    elif 0 < side < rows and (height + 1) * (width + line_breaks) <= budget:
        height += 1
    elif 0 < side < columns and height * (width + 1 + line_breaks) <= budget:
        width += 1
    return height, width


def tokens_of(sizes: Sequence[Size], grid: Grid) -> int:
    """Return the number of tokens, line breaks included, of views with these grid sizes."""
    return sum(height * (width + int(grid.newline)) for height, width in sizes)
