"""Text raters: which words they are, and how they travel from cut to cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from saccade.policies.blocks.raters import notes_of, rated, raters_in, text_raters
from tests.policies import oracles_sparsevlm as oracles


@given(seed=st.integers(0, 10_000), tokens=st.integers(1, 12), words=st.integers(1, 9), data=st.data())
def test_raters_equal_the_oracle(seed: int, tokens: int, words: int, data: st.DataObject) -> None:
    random = np.random.default_rng(seed)
    text = random.standard_normal((2, words, 6)).astype(np.float32)
    visual = random.standard_normal((2, tokens, 6)).astype(np.float32)
    mask = np.arange(words) < np.array(
        [[data.draw(st.integers(1, words))], [data.draw(st.integers(1, words))]]
    )
    text[~mask] = 50.0  # padding may hold anything
    raters = text_raters(torch.from_numpy(text), torch.from_numpy(mask), torch.from_numpy(visual))
    for robot in range(2):
        found = raters[robot].nonzero().flatten().tolist()
        assert found == oracles.text_raters(text[robot], mask[robot], visual[robot])


def test_equal_words_all_rate() -> None:
    """Float noise around the mean must not make raters of some of them."""
    text = torch.randn(1, 1, 64, generator=torch.Generator().manual_seed(0)).expand(1, 7, 64)
    visual = torch.randn(1, 30, 64, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(7)[None] < 5
    assert torch.equal(text_raters(text, mask, visual), mask)


def test_broken_visual_tokens_have_no_say() -> None:
    random = torch.Generator().manual_seed(3)
    text, visual = torch.randn(1, 6, 8, generator=random), torch.randn(1, 10, 8, generator=random)
    mask = torch.ones(1, 6, dtype=torch.bool)
    sound = text_raters(text, mask, visual)
    broken = torch.cat(
        [visual, torch.full((1, 2, 8), float("nan")), torch.full((1, 1, 8), float("inf"))], dim=1
    )
    assert torch.equal(text_raters(text, mask, broken), sound)
    assert 0 < sound.sum() < 6
    assert torch.equal(text_raters(text, mask, broken[:, 10:]), mask)


def test_the_score_is_the_mean_of_the_raters_rows() -> None:
    rows = torch.tensor([[[0.1, 0.4, 0.0], [0.3, float("nan"), 0.2], [9.0, 9.0, float("nan")]]])
    score = rated(rows, torch.tensor([[True, True, False]]))
    assert score[0].tolist() == pytest.approx([0.2, 0.2, 0.1])


@example(raters=[True] * 70, alive=2)  # as large as the numbers get
@given(raters=st.lists(st.booleans(), min_size=1, max_size=70), alive=st.integers(1, 5))
def test_notes_hold_the_raters_through_any_selection(raters: list[bool], alive: int) -> None:
    wanted = torch.tensor([raters, raters[::-1]])
    notes = notes_of(wanted, alive)
    assert all(note.shape == (2, alive) and note.dtype == torch.float32 for note in notes.values())
    kept = {name: note[:, alive - 1 :] for name, note in notes.items()}
    assert torch.equal(raters_in(kept, len(raters)), wanted)
