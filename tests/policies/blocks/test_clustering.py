"""Clusters around density peaks equal their NumPy oracle, on duplicates, ties and broken tokens too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.policies.blocks.clustering import density_peaks
from saccade.policies.blocks.merging import NOWHERE
from tests.policies import oracles_sparsevlm as oracles


@given(seed=st.integers(0, 10_000), tokens=st.integers(1, 20), data=st.data())
def test_clusters_equal_the_oracle(seed: int, tokens: int, data: st.DataObject) -> None:
    clusters = data.draw(st.integers(1, tokens))
    vectors = np.random.default_rng(seed).standard_normal((2, tokens, 5)).astype(np.float32)
    centres, member = density_peaks(torch.from_numpy(vectors), clusters)
    for robot in range(2):
        expected = oracles.density_peaks(vectors[robot], clusters)
        assert (centres[robot].tolist(), member[robot].tolist()) == expected


@given(seed=st.integers(0, 10_000), tokens=st.integers(1, 14), data=st.data())
def test_clusters_equal_the_oracle_among_duplicates(seed: int, tokens: int, data: st.DataObject) -> None:
    """Corners of a square: many tokens in one place, equal densities, equal distances."""
    clusters = data.draw(st.integers(1, tokens))
    vectors = np.random.default_rng(seed).integers(0, 2, (tokens, 2)).astype(np.float32)
    centres, member = density_peaks(torch.from_numpy(vectors)[None], clusters)
    assert (centres[0].tolist(), member[0].tolist()) == oracles.density_peaks(vectors, clusters)


def test_two_groups_are_found() -> None:
    random = np.random.default_rng(0)
    groups = np.concatenate([random.normal(0, 0.1, (6, 8)), random.normal(3, 0.1, (4, 8))]).astype(np.float32)
    centres, member = density_peaks(torch.from_numpy(groups)[None], 2)
    assert centres[0, 0] < 6 <= centres[0, 1]
    assert member[0].tolist() == [0] * 6 + [1] * 4


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_broken_token_joins_nobody_and_is_a_centre_last(broken: float) -> None:
    # Short vectors: density is about 1 everywhere, so that only distance makes a peak, and a broken token is far away.
    vectors = 0.01 * torch.randn(1, 8, 4, generator=torch.Generator().manual_seed(1))
    vectors[0, 2, 1] = broken
    centres, member = density_peaks(vectors, 3)
    assert 2 not in centres[0]
    assert member[0, 2] == NOWHERE
    assert (member[0, [0, 1, 3, 4, 5, 6, 7]] != NOWHERE).all()
    centres, member = density_peaks(vectors, 8)
    assert centres[0].tolist() == member[0].tolist() == list(range(8))


def test_equal_tokens_are_one_cluster_around_the_first() -> None:
    same = torch.randn(1, 1, 300, generator=torch.Generator().manual_seed(2)).expand(1, 12, 300)
    centres, member = density_peaks(same, 2)
    assert centres.tolist() == [[0, 1]]
    assert member.tolist() == [[0, 1] + [0] * 10]
