"""Positions of segments, before and after tokens were dropped."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.export.families.sequence import SequenceLayout


@given(visual=st.integers(1, 9), text=st.integers(1, 6), actions=st.integers(1, 6), data=st.data())
def test_actions_are_read_from_the_last_prompt_token_on(
    visual: int, text: int, actions: int, data: st.DataObject
) -> None:
    layout = SequenceLayout({"bos": 1, "visual": visual, "text": text, "action": actions, "eos": 1})
    lengths = data.draw(st.lists(st.integers(1, text), min_size=1, max_size=3))
    start = 1 + visual
    mask = torch.ones(len(lengths), layout.tokens, dtype=torch.bool)
    for row, length in enumerate(lengths):
        mask[row, start + length : start + text] = False
    position = torch.arange(layout.tokens).expand(len(lengths), -1)[..., None]
    read = layout.answer_states(position, mask)[..., 0].tolist()
    first = start + text
    assert read == [[start + length - 1, *range(first, first + actions - 1)] for length in lengths]


def test_dropping_visual_tokens_keeps_the_order_of_the_rest() -> None:
    layout = SequenceLayout({"bos": 1, "visual": 4, "text": 2, "action": 1, "eos": 1})
    kept = layout.replace_visual(torch.arange(9)[None], torch.tensor([[2, 4]]))
    assert kept.tolist() == [[0, 2, 4, 5, 6, 7, 8]]
    assert layout.with_visual(2).span("text") == slice(3, 5)
