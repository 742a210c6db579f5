"""Budgets shared by views and by cuts: complete, in proportion, within limits."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.policies.base import Grid
from saccade.policies.blocks.budgets import (
    choose_per_view,
    layer_mean,
    nested_counts,
    scaled_layers,
    split_by_weight,
    split_evenly,
)
from saccade.policies.blocks.selection import keep_top_k
from saccade.proto.errors import PolicyError
from tests.policies import oracles


@given(keep=st.integers(1, 500), views=st.integers(1, 6))
def test_split_is_even_and_complete(keep: int, views: int) -> None:
    shares = split_evenly(keep, views)
    assert sum(shares) == keep and len(shares) == views
    assert max(shares) - min(shares) <= 1 and list(shares) == sorted(shares, reverse=True)


@given(views=st.integers(1, 4), per_view=st.integers(1, 6), batch=st.integers(1, 3), data=st.data())
def test_per_view_gives_each_view_its_share(
    views: int, per_view: int, batch: int, data: st.DataObject
) -> None:
    keep = data.draw(st.integers(1, views * per_view))
    scores = torch.rand(batch, views * per_view, generator=torch.Generator().manual_seed(keep))

    def choose(tensors: Sequence[Tensor], count: int) -> Tensor:
        return keep_top_k(tensors[0], count)

    kept = choose_per_view(choose, [scores], Grid(views, 1, per_view), keep)
    for row, found in zip(scores.numpy(), kept.tolist(), strict=True):
        expected: list[int] = []
        for view, share in enumerate(split_evenly(keep, views)):
            start = view * per_view
            if share:
                expected += [start + token for token in oracles.top_k(row[start : start + per_view], share)]
        assert found == expected


@given(batch=st.integers(1, 3), shares=st.lists(st.integers(0, 6), min_size=1, max_size=4).filter(any))
def test_per_view_takes_given_shares(batch: int, shares: list[int]) -> None:
    grid = Grid(len(shares), 2, 3)
    scores = torch.rand(batch, grid.tokens, generator=torch.Generator().manual_seed(sum(shares)))
    kept = choose_per_view(
        lambda tensors, count: keep_top_k(tensors[0], count), [scores], grid, sum(shares), shares
    )
    for row, found in zip(scores.numpy(), kept.tolist(), strict=True):
        parts = [(view * 6, share) for view, share in enumerate(shares) if share]
        assert found == [
            start + token for start, share in parts for token in oracles.top_k(row[start : start + 6], share)
        ]


def water_filled(keep: int, weights: list[int], limit: int) -> list[Fraction]:
    """What each view gets in exact fractions: in proportion, what does not fit goes to the others in proportion."""
    exact, full = [Fraction(0)] * len(weights), set[int]()
    while len(full) < len(weights):
        rest, mass = keep - limit * len(full), sum(w for view, w in enumerate(weights) if view not in full)
        for view, weight in enumerate(weights):
            part = Fraction(weight, mass) if mass else Fraction(1, len(weights) - len(full))
            exact[view] = Fraction(limit) if view in full else rest * part
        over = {view for view, part in enumerate(exact) if part > limit}
        if not over:
            break
        full |= over
    return exact


@given(
    weights=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    limit=st.integers(1, 40),
    data=st.data(),
)
def test_split_by_weight_rounds_the_exact_proportion(
    weights: list[int], limit: int, data: st.DataObject
) -> None:
    keep = data.draw(st.integers(0, limit * len(weights)))
    shares = split_by_weight(keep, [float(weight) for weight in weights], limit)
    exact = water_filled(keep, weights, limit)
    assert sum(shares) == keep and sum(exact) == keep
    assert all(
        0 <= share <= limit and abs(share - part) < 1 for share, part in zip(shares, exact, strict=True)
    )
    ups = [view for view, (share, part) in enumerate(zip(shares, exact, strict=True)) if share > part]
    whole = [view for view, (share, part) in enumerate(zip(shares, exact, strict=True)) if share == part]
    rests = [(int(part) - part, view) for view, part in enumerate(exact) if view not in whole]
    assert ups == sorted(view for _, view in sorted(rests)[: len(ups)])


@pytest.mark.parametrize(
    ("keep", "weights", "limit", "shares"),
    [
        (100, (0.4, 0.6), 256, (40, 60)),
        (101, (0.5, 0.5), 256, (51, 50)),
        (7, (1.0, 1.0, 1.0), 256, (3, 2, 2)),
        (10, (1.0, 0.0), 6, (6, 4)),
        (10, (0.0, 0.0, 0.0), 6, (4, 3, 3)),
        (12, (8.0, 1.0, 1.0), 6, (6, 3, 3)),
        (0, (1.0, 2.0), 6, (0, 0)),
    ],
)
def test_split_by_weight_in_examples(
    keep: int, weights: tuple[float, ...], limit: int, shares: tuple[int, ...]
) -> None:
    assert split_by_weight(keep, weights, limit) == shares


def test_more_than_all_views_hold_is_refused() -> None:
    with pytest.raises(PolicyError, match="at most 4 tokens for each of 2 views, found 9 in all"):
        split_by_weight(9, (1.0, 1.0), 4)


def test_nested_counts_in_examples() -> None:
    published = tuple(dropped / 466 for dropped in (276, 376, 466))
    assert nested_counts(576, 110, published) == (300, 200, 110)
    assert nested_counts(200, 200, published) == (200, 200, 200)
    assert nested_counts(10, 0, (0.5, 1.0)) == (5, 0)


@given(tokens=st.integers(1, 600), data=st.data())
def test_nested_counts_fall_to_the_budget(tokens: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(0, tokens))
    dropped = [*sorted(data.draw(st.lists(st.floats(0, 1), max_size=4))), 1.0]
    counts = nested_counts(tokens, keep, dropped)
    assert counts[-1] == keep
    assert list(counts) == sorted(counts, reverse=True)
    assert all(
        abs((tokens - count) - share * (tokens - keep)) <= 0.5
        for count, share in zip(counts, dropped, strict=True)
    )


@pytest.mark.parametrize(
    ("published", "layers", "scaled"),
    [
        ((2, 6, 15), 32, (2, 6, 15)),
        ((2, 6, 15), 18, (1, 3, 8)),
        ((2, 6, 15), 5, (1, 2, 3)),
        ((2, 6, 15), 4, (1, 2, 3)),
        ((7, 9, 12), 32, (7, 9, 12)),
        ((7, 9, 12), 8, (2, 3, 4)),
        ((30, 31), 4, (2, 3)),
        ((), 4, ()),
    ],
)
def test_scaled_layers_in_examples(published: tuple[int, ...], layers: int, scaled: tuple[int, ...]) -> None:
    assert scaled_layers(published, layers) == scaled


@given(
    published=st.lists(st.integers(1, 31), min_size=1, max_size=5, unique=True).map(sorted),
    layers=st.integers(2, 80),
)
def test_scaled_layers_rise_inside_the_decoder(published: list[int], layers: int) -> None:
    if layers <= len(published):
        with pytest.raises(PolicyError, match=f"expected more than {len(published)} decoder layers"):
            scaled_layers(published, layers)
        return
    scaled = scaled_layers(published, layers)
    assert len(scaled) == len(published)
    assert list(scaled) == sorted(set(scaled))
    assert scaled[0] >= 1 and scaled[-1] < layers
    if layers >= 32:
        assert all(
            abs(own - layer * layers / 32) <= 0.5 for own, layer in zip(scaled, published, strict=True)
        )


@given(layers=st.integers(1, 40), tokens=st.integers(1, 600), data=st.data())
def test_layer_mean_counts_layer_by_layer(layers: int, tokens: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, layers - 1), max_size=4)))
    counts = sorted(
        data.draw(st.lists(st.integers(0, tokens), min_size=len(cuts), max_size=len(cuts))), reverse=True
    )
    total, alive = 0, tokens
    for layer in range(layers):
        if layer in cuts:
            alive = counts[cuts.index(layer)]
        total += alive
    assert layer_mean(tokens, cuts, counts, layers) == pytest.approx(total / layers)
