"""Tables of grid sizes: alike first, then steeper, all of one total."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.policies.base import Grid
from saccade.policies.blocks.level_tables import level_tables, level_total
from saccade.policies.blocks.view_budgets import grid_size, tokens_of
from saccade.proto.errors import PolicyError

GRIDS = st.builds(Grid, st.integers(1, 5), st.integers(1, 6), st.integers(2, 7), newline=st.booleans())
SPREADS = (1.0, 0.5, 0.2)


def counts_of(table: tuple[tuple[int, int], ...], grid: Grid) -> list[int]:
    return [tokens_of([size], grid) for size in table]


@pytest.mark.parametrize(
    ("budget", "grid", "tables"),
    [
        (50, Grid(2, 10, 10), (((5, 5), (5, 5)), ((8, 4), (6, 3)), ((7, 6), (4, 2)))),
        (20, Grid(2, 4, 5), (((3, 3), (3, 3)), ((4, 3), (3, 2)), ((4, 4), (2, 1)))),
        (40, Grid(2, 4, 5), (((4, 5), (4, 5)),)),
        (1, Grid(2, 4, 5), (((1, 1), (0, 0)),)),
        (9, Grid(3, 3, 4, newline=True), (((1, 2),) * 3, ((2, 1), (1, 2), (1, 1)), ((2, 2), (1, 2), (0, 0)))),
    ],
)
def test_tables(budget: int, grid: Grid, tables: tuple[tuple[tuple[int, int], ...], ...]) -> None:
    assert level_tables(level_total(budget, grid), grid, SPREADS) == tables


@given(GRIDS, st.data())
def test_every_table_has_the_total_and_the_first_is_level(grid: Grid, data: st.DataObject) -> None:
    breaks = int(grid.newline)
    budget = data.draw(st.integers(1 + breaks, grid.tokens))
    total = level_total(budget, grid)
    assert 0 < total <= budget and level_total(total, grid) == total
    tables = level_tables(total, grid, SPREADS)
    alike = grid_size(budget // grid.views, grid.rows, grid.columns - breaks, breaks)
    if alike != (0, 0):
        assert counts_of(tables[0], grid) == [tokens_of([alike], grid)] * grid.views
    for table in tables:
        counts = counts_of(table, grid)
        assert sum(counts) == total and counts == sorted(counts, reverse=True)
        assert all(height <= grid.rows and width <= grid.columns - breaks for height, width in table)
    firsts = [counts_of(table, grid)[0] for table in tables]
    assert firsts == sorted(firsts)


@given(st.integers(3, 36), st.sampled_from([0.8, 0.5, 0.25]))
def test_no_sizes_of_that_total_are_nearer(budget: int, spread: float) -> None:
    grid = Grid(3, 4, 3)
    total = level_total(budget, grid)
    (table,) = level_tables(total, grid, (spread,))
    shares = [spread**rank for rank in range(3)]
    wanted = [min(total * share / sum(shares), grid.per_view) for share in shares]
    if sum(wanted) < total - 1e-9:
        return  # clipped, and shared again: tested there
    sizes = {0, 1, 2, 3, 4, 6, 8, 9, 12}  # a grid of 3 rows may be as long as the view

    def distance(counts: tuple[int, ...]) -> float:
        return sum((count - want) ** 2 for count, want in zip(counts, wanted, strict=True))

    every = combinations_with_replacement(sorted(sizes, reverse=True), 3)
    best = min(distance(counts) for counts in every if sum(counts) == total)
    assert distance(tuple(counts_of(table, grid))) == pytest.approx(best)


def test_a_budget_below_one_patch_is_refused() -> None:
    with pytest.raises(PolicyError, match="at least 2 tokens, one patch and its line break, found 1"):
        level_total(1, Grid(2, 3, 4, newline=True))
    with pytest.raises(PolicyError, match="at least 1 tokens, one patch, found 0"):
        level_total(0, Grid(2, 3, 4))
    with pytest.raises(PolicyError, match="whole grids of, found 5"):
        level_tables(5, Grid(1, 4, 5), SPREADS)
