"""Merging as a matrix equals sums spelled out in loops, whatever the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.policies.blocks.merging import NOWHERE, each_alone, nearest_slots, slots_of, weighted_means

WEIGHT = st.one_of(st.floats(0.0, 10.0, width=32), st.sampled_from([0.0, -1.0, np.nan, np.inf]).map(float))


@st.composite
def merges(draw: st.DrawFn) -> tuple[list[int], list[int], list[float]]:
    """Survivors, where each token goes, and weights; survivors go into their own slots."""
    alive = draw(st.integers(1, 9))
    kept = sorted(draw(st.sets(st.integers(0, alive - 1), min_size=1)))
    into = draw(st.lists(st.integers(NOWHERE, len(kept) - 1), min_size=alive, max_size=alive))
    for slot, token in enumerate(kept):
        into[token] = slot
    return kept, into, draw(st.lists(WEIGHT, min_size=alive, max_size=alive))


@given(st.lists(merges(), min_size=1, max_size=3))
def test_each_survivor_is_the_weighted_mean_of_what_joined_it(
    cases: list[tuple[list[int], list[int], list[float]]],
) -> None:
    for kept, into, weights in cases:
        mix = weighted_means(torch.tensor([into]), torch.tensor([weights]), torch.tensor([kept]))[0]
        tokens = np.random.default_rng(len(into)).standard_normal((len(into), 3))
        for slot, survivor in enumerate(kept):
            members = {
                token: weights[token]
                for token, own in enumerate(into)
                if own == slot and np.isfinite(weights[token]) and weights[token] > 0
            }
            total = sum(np.float32(weight) for weight in members.values())
            if total <= 1e-12:
                members, total = {survivor: 1.0}, 1.0
            expected = sum(weight / total * tokens[token] for token, weight in members.items())
            np.testing.assert_allclose(mix[slot].numpy() @ tokens, expected, rtol=1e-4, atol=1e-5)
            assert float(mix[slot].sum()) == pytest.approx(1.0, abs=1e-5)


def test_robots_merge_apart() -> None:
    kept, into = torch.tensor([[0, 2], [1, 2]]), torch.tensor([[0, 0, 1], [NOWHERE, 0, 1]])
    mix = weighted_means(into, torch.tensor([[1.0, 3.0, 5.0], [9.0, 2.0, 2.0]]), kept)
    assert mix.tolist() == [[[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]], [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]]


def test_slots_of_a_plain_selection() -> None:
    kept = torch.tensor([[1, 3], [0, 1]])
    slots = slots_of(kept, 4)
    assert slots.tolist() == [[NOWHERE, 0, NOWHERE, 1], [0, 1, NOWHERE, NOWHERE]]
    plain = weighted_means(slots, torch.full((2, 4), 0.5), kept)
    assert torch.equal(plain, each_alone(kept, 4))
    assert plain.tolist()[0] == [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]


CLOSENESS = st.sampled_from([0.0, 0.5, 1.0, np.inf, -np.inf, np.nan]).map(float)


@given(st.integers(1, 4), st.integers(1, 6), st.data())
def test_the_nearest_slot_is_the_first_of_the_closest(keep: int, alive: int, data: st.DataObject) -> None:
    rows = st.lists(CLOSENESS, min_size=keep, max_size=keep)
    closeness = data.draw(st.lists(rows, min_size=alive, max_size=alive))
    found = nearest_slots(torch.tensor([closeness]))
    assert found.dtype == torch.int64
    for token, row in enumerate(closeness):
        best, slot = -np.inf, NOWHERE
        for candidate, value in enumerate(row):
            if value > best:
                best, slot = value, candidate
        assert found[0, token] == slot
