"""Shares and grids of views: QuoTA's published rules."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from saccade.policies.blocks.view_budgets import clipped_shares, grid_size, view_shares
from tests.policies import oracles_quota as oracles

SCORES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8)


def test_shares_are_the_published_ones() -> None:
    assert view_shares([0.1, 0.2, 0.4]) == pytest.approx((1 / 21, 4 / 21, 16 / 21))
    assert view_shares([0.1, 0.2], exponent=1) == pytest.approx((1 / 3, 2 / 3))


@given(SCORES, st.sampled_from([0.5, 1, 2, 3]))
def test_shares_equal_the_formula(scores: list[float], exponent: float) -> None:
    assume(max(scores) > 1e-3)
    weights = [(100 * score) ** exponent for score in scores]
    assert view_shares(scores, 100, exponent) == pytest.approx([weight / sum(weights) for weight in weights])
    assert view_shares(scores, 1, exponent) == pytest.approx(view_shares(scores, 100, exponent))


@pytest.mark.parametrize(
    ("scores", "shares"),
    [
        ([], ()), ([0.0, 0.0], (0.5, 0.5)), ([math.nan, 0.3], (0.0, 1.0)), ([-1.0, math.inf, 2.0], (0.0, 0.0, 1.0)),
        ([1e300, 1e300], (0.5, 0.5)), ([1e-300, 1e-300], (0.5, 0.5)),
    ],
)  # fmt: skip
def test_shares_of_wild_scores(scores: list[float], shares: tuple[float, ...]) -> None:
    assert view_shares(scores) == pytest.approx(shares)


@given(SCORES, st.floats(0.05, 1.2))
def test_clipping_gives_the_surplus_in_proportion(scores: list[float], limit: float) -> None:
    shares = view_shares(scores)
    clipped = clipped_shares(shares, limit)
    assert all(share <= limit + 1e-6 for share in clipped)
    # Nothing is lost but what no view can take: views below the limit with no share of their own get none.
    room = sum(limit for share in shares if share > 0)
    assert sum(clipped) == pytest.approx(min(1.0, room), abs=1e-6)
    for (a, b), (before_a, before_b) in zip(pairwise(clipped), pairwise(shares), strict=True):
        if max(a, b) < limit - 1e-6 and before_b > 1e-9:
            assert a / b == pytest.approx(before_a / before_b, rel=1e-5)


def test_clipping_once_is_the_published_step() -> None:
    shares = (0.6, 0.3, 0.1)
    assert clipped_shares(shares, 0.5) == pytest.approx(oracles.clipped_once(shares, 0.5))
    assert clipped_shares(shares, 0.5) == pytest.approx((0.5, 0.375, 0.125))
    # Once is not enough here: the surplus lifts the second above the limit.
    assert max(oracles.clipped_once(shares, 0.35)) > 0.35
    assert clipped_shares(shares, 0.35) == pytest.approx((0.35, 0.35, 0.3))


@given(st.integers(0, 2000))
def test_a_grid_is_the_published_one_where_the_view_is_larger(budget: int) -> None:
    assert grid_size(budget, 100, 100) == oracles.published_grid(budget)


@given(st.integers(0, 200), st.integers(1, 9), st.integers(1, 9), st.integers(0, 1))
def test_a_grid_fits_budget_and_view_and_uses_both(budget: int, rows: int, columns: int, breaks: int) -> None:
    height, width = grid_size(budget, rows, columns, breaks)
    assert (height == 0) == (width == 0) == (budget < 1 + breaks)
    assert height <= rows and width <= columns and height * (width + breaks) <= budget
    if budget >= rows * (columns + breaks):
        assert (height, width) == (rows, columns)
    elif height:
        # Another row and another column together would cost too much, or the view has no more.
        grown = (min(height + 1, rows), min(width + 1, columns))
        assert grown[0] * (grown[1] + breaks) > budget
