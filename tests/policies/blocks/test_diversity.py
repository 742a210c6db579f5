"""Greedy diversity equals its NumPy oracles in the order of picks, on duplicates, ties and broken embeddings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saccade.policies.blocks.diversity import farthest_first, max_min_diversity, max_sum_diversity
from tests.policies import oracles


@st.composite
def lattice_embeddings(draw: st.DrawFn, width: int = 4) -> np.ndarray:
    """Rows of -1, 0, 1: duplicates, opposites, zero vectors and exact ties of distance."""
    tokens = draw(st.integers(1, 12))
    return draw(hnp.arrays(np.float32, (tokens, width), elements=st.sampled_from([-1.0, 0.0, 1.0])))


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


@pytest.mark.parametrize("seed", range(5))
def test_rounding_changes_no_pick_where_embeddings_differ(seed: int) -> None:
    """Farthest first in float64 and without rounding."""
    embeddings = np.random.default_rng(seed).standard_normal((80, 96)).astype(np.float32)
    unit = embeddings.astype(np.float64) / np.linalg.norm(
        embeddings.astype(np.float64), axis=1, keepdims=True
    )
    distance = 1.0 - unit @ unit.T
    picks = [0]
    while len(picks) < 40:
        nearest = distance[:, picks].min(axis=1)
        nearest[picks] = -1.0
        picks.append(int(nearest.argmax()))
    assert farthest_first(torch.from_numpy(embeddings)[None], torch.tensor([[0]]), 40)[0].tolist() == picks


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


@given(lattice_embeddings(), st.data())
def test_max_sum_equals_the_oracle_in_the_order_of_picks(embeddings: np.ndarray, data: st.DataObject) -> None:
    tokens = len(embeddings)
    first, keep = data.draw(st.integers(0, tokens - 1)), data.draw(st.integers(1, tokens))
    picks = max_sum_diversity(torch.from_numpy(embeddings)[None], torch.tensor([[first]]), keep)[0].tolist()
    assert picks == oracles.max_sum_diversity(embeddings, first, keep)


@pytest.mark.parametrize("seed", range(5))
def test_max_sum_equals_the_oracle_on_wide_embeddings(seed: int) -> None:
    random = np.random.default_rng(seed)
    embeddings = random.standard_normal((2, 50, 96)).astype(np.float32)
    first = random.integers(0, 50, (2, 1))
    picks = max_sum_diversity(torch.from_numpy(embeddings), torch.from_numpy(first), 20).tolist()
    for row, pivot, found in zip(embeddings, first, picks, strict=True):
        assert found == oracles.max_sum_diversity(row, int(pivot[0]), 20)


@pytest.mark.parametrize("greedy", [max_sum_diversity, farthest_first])
def test_from_a_pivot_identical_embeddings_fall_to_the_lowest_indices(greedy: object) -> None:
    same = torch.randn(1, 1, 777, generator=torch.Generator().manual_seed(0)).expand(1, 9, 777)
    assert greedy(same, torch.tensor([[3]]), 6).tolist() == [[3, 0, 1, 2, 4, 5]]


@pytest.mark.parametrize("greedy", [max_sum_diversity, farthest_first])
def test_from_a_pivot_broken_embeddings_are_picked_last(greedy: object) -> None:
    embeddings = torch.eye(5)[None].clone()
    embeddings[0, 1] = float("nan")
    embeddings[0, 3, 0] = float("inf")
    assert greedy(embeddings, torch.tensor([[2]]), 5).tolist() == [[2, 0, 4, 1, 3]]
    assert greedy(embeddings, torch.tensor([[1]]), 5).tolist()[0][0] == 1
    assert sorted(greedy(embeddings, torch.tensor([[1]]), 5)[0].tolist()) == [0, 1, 2, 3, 4]
