"""The building blocks equal their NumPy oracles on ties, NaN, duplicates, one view and many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from saccade.policies.base import Grid
from saccade.policies.budgets import choose_per_view, split_evenly
from saccade.policies.diversity import max_min_diversity
from saccade.policies.selection import (
    ascending,
    gather_tokens,
    indices_of,
    keep_top_k,
    top_k_mask,
)
from tests.policies import oracles

# Few distinct values, so that ties are the rule.
TIED = st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, -1.0, np.inf, -np.inf, np.nan])
ANY = st.floats(width=32, allow_nan=True, allow_infinity=True)


@st.composite
def scores_and_keep(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    batch, tokens = draw(st.integers(1, 3)), draw(st.integers(1, 24))
    values = draw(hnp.arrays(np.float32, (batch, tokens), elements=draw(st.sampled_from([TIED, ANY]))))
    return values, draw(st.integers(1, tokens))


@st.composite
def lattice_embeddings(draw: st.DrawFn, width: int = 4) -> np.ndarray:
    """Rows of -1, 0, 1: duplicates, opposites, zero vectors and exact ties of distance."""
    tokens = draw(st.integers(1, 12))
    return draw(hnp.arrays(np.float32, (tokens, width), elements=st.sampled_from([-1.0, 0.0, 1.0])))


@given(scores_and_keep())
def test_top_k_equals_the_oracle(case: tuple[np.ndarray, int]) -> None:
    scores, keep = case
    kept = keep_top_k(torch.from_numpy(scores), keep)
    assert kept.dtype == torch.int64
    assert kept.tolist() == [oracles.top_k(row, keep) for row in scores]


@given(scores_and_keep())
def test_mask_marks_exactly_keep(case: tuple[np.ndarray, int]) -> None:
    scores, keep = case
    mask = top_k_mask(torch.from_numpy(scores), keep)
    assert (mask.sum(dim=1) == keep).all()
    assert torch.equal(indices_of(mask, keep), keep_top_k(torch.from_numpy(scores), keep))


@given(scores_and_keep(), st.randoms(use_true_random=False))
def test_union_equals_the_oracle(case: tuple[np.ndarray, int], random: object) -> None:
    scores, keep = case
    other = scores[:, ::-1].copy()
    union = top_k_mask(torch.from_numpy(scores), keep) | top_k_mask(torch.from_numpy(other), keep)
    for row, a, b in zip(union, scores, other, strict=True):
        assert row.nonzero().flatten().tolist() == oracles.union_of_top_k(a, b, keep)


def test_ties_go_to_the_lowest_index_also_in_long_rows() -> None:
    kept = keep_top_k(torch.full((2, 3000), 0.5), 1500)
    assert torch.equal(kept, torch.arange(1500).expand(2, -1))


@given(lattice_embeddings(), st.data())
def test_max_min_equals_the_oracle_in_the_order_of_picks(embeddings: np.ndarray, data: st.DataObject) -> None:
    tokens = len(embeddings)
    candidates = sorted(data.draw(st.sets(st.integers(0, tokens - 1), min_size=1)))
    keep = data.draw(st.integers(1, len(candidates)))
    eligible = torch.zeros(1, tokens, dtype=torch.bool)
    eligible[0, candidates] = True
    picks = max_min_diversity(torch.from_numpy(embeddings)[None], eligible, keep)[0].tolist()
    assert picks == oracles.max_min_diversity(embeddings, candidates, keep)


@pytest.mark.parametrize("seed", range(5))
def test_max_min_equals_the_oracle_on_wide_embeddings(seed: int) -> None:
    random = np.random.default_rng(seed)
    embeddings = random.standard_normal((2, 60, 96)).astype(np.float32)
    mask = random.random((2, 60)) < 0.6
    picks = max_min_diversity(torch.from_numpy(embeddings), torch.from_numpy(mask), 20).tolist()
    for row, candidates, found in zip(embeddings, mask, picks, strict=True):
        assert found == oracles.max_min_diversity(row, np.flatnonzero(candidates).tolist(), 20)


def test_identical_embeddings_fall_to_the_lowest_indices() -> None:
    """Float noise of equal vectors must not decide: the cosine of a vector with itself is not exactly 1."""
    same = torch.randn(1, 1, 777).expand(1, 50, 777)
    eligible = torch.ones(1, 50, dtype=torch.bool)
    eligible[0, :4] = False
    assert max_min_diversity(same, eligible, 6).tolist() == [[4, 5, 6, 7, 8, 9]]


def test_broken_embeddings_are_picked_last_and_do_not_hide_others() -> None:
    embeddings = torch.eye(5)[None].clone()
    embeddings[0, 1] = float("nan")
    embeddings[0, 3, 0] = float("inf")
    eligible = torch.ones(1, 5, dtype=torch.bool)
    assert max_min_diversity(embeddings, eligible, 5).tolist() == [[0, 2, 4, 1, 3]]


def test_ascending_sorts_indices() -> None:
    assert ascending(torch.tensor([[7, 0, 511], [2, 1, 3]])).tolist() == [[0, 7, 511], [1, 2, 3]]


def test_gather_takes_the_kept_rows() -> None:
    tokens = torch.arange(24.0).reshape(2, 4, 3)
    taken = gather_tokens(tokens, torch.tensor([[1, 3], [0, 2]]))
    assert torch.equal(taken, torch.stack([tokens[0, [1, 3]], tokens[1, [0, 2]]]))


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
