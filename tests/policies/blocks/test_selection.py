"""Top-k, ranks and shares equal their NumPy oracles on ties, NaN and infinities."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saccade.policies.blocks.selection import (
    as_share,
    ascending,
    gather_tokens,
    indices_of,
    keep_top_k,
    ranks,
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


def test_ascending_sorts_indices() -> None:
    assert ascending(torch.tensor([[7, 0, 511], [2, 1, 3]])).tolist() == [[0, 7, 511], [1, 2, 3]]


def test_gather_takes_the_kept_rows() -> None:
    tokens = torch.arange(24.0).reshape(2, 4, 3)
    taken = gather_tokens(tokens, torch.tensor([[1, 3], [0, 2]]))
    assert torch.equal(taken, torch.stack([tokens[0, [1, 3]], tokens[1, [0, 2]]]))


@given(scores_and_keep())
def test_ranks_equal_the_oracle(case: tuple[np.ndarray, int]) -> None:
    scores, _ = case
    found = ranks(torch.from_numpy(scores))
    assert found.dtype == torch.float32
    for row, own in zip(scores, found.tolist(), strict=True):
        assert own == oracles.rank_of(np.where(np.isnan(row), -np.inf, row))


@given(scores_and_keep())
def test_the_first_ranks_are_the_top_k(case: tuple[np.ndarray, int]) -> None:
    scores, keep = case
    own = torch.from_numpy(scores)
    assert torch.equal(ranks(own) < keep, top_k_mask(own, keep))


NOT_NEGATIVE = st.one_of(
    st.floats(0.0, 1e3, width=32), st.sampled_from([0.0, 1.0, np.inf, -np.inf, np.nan]).map(float)
)


@given(hnp.arrays(np.float32, (2, 9), elements=NOT_NEGATIVE))
def test_shares_are_parts_of_what_is_finite(scores: np.ndarray) -> None:
    shares = as_share(torch.from_numpy(scores)).numpy()
    for row, found in zip(scores, shares, strict=True):
        finite = [float(value) if np.isfinite(value) else 0.0 for value in row]
        total = sum(finite)
        expected = [value / max(total, 1e-12) for value in finite]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-12)


def test_the_shares_of_nothing_are_nothing() -> None:
    assert as_share(torch.tensor([[0.0, 0.0], [float("nan"), float("inf")]])).tolist() == [[0.0, 0.0]] * 2
