"""The ring is newest-heaviest, and a frame enters it as a distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.policies.blocks.smoothing import decay_weights, push, smoothed, visual_distribution
from tests.policies import oracles


@given(window=st.integers(1, 10), decay=st.floats(0.1, 0.99))
def test_weights_rise_towards_the_newest_and_sum_to_one(window: int, decay: float) -> None:
    weights = decay_weights(window, decay)
    assert sum(weights) == pytest.approx(1.0)
    assert list(weights) == sorted(weights) and len(set(weights)) == window


def test_weights_of_the_paper() -> None:
    """w = 3, gamma = 0.8: 0.512, 0.64, 0.8 over 1.952, oldest first."""
    assert decay_weights(3, 0.8) == pytest.approx((0.512 / 1.952, 0.64 / 1.952, 0.8 / 1.952))


@given(batch=st.integers(1, 3), window=st.integers(1, 5), tokens=st.integers(1, 8))
def test_smoothing_equals_the_oracle(batch: int, window: int, tokens: int) -> None:
    history = torch.rand(batch, window, tokens, generator=torch.Generator().manual_seed(window))
    expected = [oracles.smoothed_action_score(list(rows.numpy()[::-1]), 0.8) for rows in history]
    np.testing.assert_allclose(smoothed(history, 0.8).numpy(), np.stack(expected), rtol=1e-5)


def test_push_drops_the_oldest() -> None:
    history = torch.arange(6.0).reshape(1, 3, 2)
    assert push(history, torch.tensor([[8.0, 9.0]])).tolist() == [[[2.0, 3.0], [4.0, 5.0], [8.0, 9.0]]]


def test_no_visual_attention_leaves_zeros() -> None:
    nothing = torch.zeros(1, 4)
    assert visual_distribution(nothing, torch.ones(1, 4), nothing).tolist() == [[0.0] * 4]


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=1, max_size=12))
def test_distribution_equals_the_oracle(cells: list[tuple[float, bool]]) -> None:
    attention = np.array([value if value > 1e-6 else 0.0 for value, _ in cells], dtype=np.float32)
    present = np.array([float(alive) for _, alive in cells], dtype=np.float32)
    estimate = np.full(len(cells), 1.0 / len(cells), dtype=np.float32)
    found = visual_distribution(*(torch.from_numpy(array)[None] for array in (attention, present, estimate)))
    np.testing.assert_allclose(found[0].numpy(), oracles.pushed_row(attention, present, estimate), atol=1e-5)
