"""Slots: writing, protecting, evicting, renumbering; ties, NaN and full or empty caches."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.policies.kv.slots import (
    EMPTY,
    POSITION_LIMIT,
    lowest_slots,
    marked_first,
    next_slot,
    protected_slots,
    slot_ranks,
    used,
    valid_slots,
    write_position,
)

NUMBERS = st.one_of(st.integers(-2, 2).map(float), st.sampled_from([math.nan, math.inf, -math.inf]))


def _one_head(*positions: int) -> Tensor:
    return torch.tensor([[positions]])


def test_the_first_free_slot_comes_next_and_in_a_full_cache_the_oldest() -> None:
    assert next_slot(_one_head(4, EMPTY, 0, EMPTY)).tolist() == [[1]]
    assert next_slot(_one_head(EMPTY, EMPTY)).tolist() == [[0]]
    assert next_slot(_one_head(7, 3, 5)).tolist() == [[1]]


def test_heads_and_robots_write_where_each_has_room() -> None:
    positions = torch.tensor([[[0, EMPTY, 2], [EMPTY, 1, 2]], [[EMPTY, EMPTY, EMPTY], [5, 6, EMPTY]]])
    written = write_position(positions, next_slot(positions), torch.tensor([3, 7]))
    assert written.tolist() == [[[0, 3, 2], [3, 1, 2]], [[7, EMPTY, EMPTY], [5, 6, 7]]]
    assert used(positions).squeeze(-1).tolist() == [[2.0, 2.0], [0.0, 2.0]]


def test_first_and_recent_positions_are_protected_wherever_they_are_stored() -> None:
    positions = _one_head(9, 0, 3, EMPTY, 8, 1)
    marked = protected_slots(positions, torch.tensor([9]), start=1, recent=2)
    assert marked.tolist() == [[[True, True, False, False, True, False]]]
    assert not protected_slots(positions, torch.tensor([9]), start=0, recent=0).any()


@given(
    scores=st.lists(NUMBERS, min_size=6, max_size=6),
    eligible=st.lists(st.booleans(), min_size=6, max_size=6),
    order=st.permutations(range(6)),
    count=st.integers(1, 6),
)
def test_the_lowest_go_ties_to_the_oldest(
    scores: list[float], eligible: list[bool], order: list[int], count: int
) -> None:
    far = POSITION_LIMIT - 7  # the last positions for which ties are exact
    positions = [far + place for place in order]
    found = lowest_slots(torch.tensor([[scores]]), torch.tensor([[eligible]]), _one_head(*positions), count)
    worst_first = sorted(
        (slot for slot in range(6) if eligible[slot]),
        key=lambda slot: (-math.inf if math.isnan(scores[slot]) else scores[slot], positions[slot]),
    )
    if count > len(worst_first):
        assert found[0, 0].tolist() == eligible
    elif not any(math.isnan(score) for score in scores):
        assert found[0, 0].nonzero().flatten().tolist() == sorted(worst_first[:count])
    else:
        assert found[0, 0].sum() == count


def test_nan_is_lowest_and_stays_where_it_is() -> None:
    scores = torch.tensor([[[0.5, math.nan, -3.0, 0.1]]])
    found = lowest_slots(scores, torch.ones(1, 1, 4, dtype=torch.bool), _one_head(0, 1, 2, 3), 1)
    assert found[0, 0].tolist() == [False, True, False, False]


def test_ranks_are_the_order_of_positions() -> None:
    positions = _one_head(40, 2, EMPTY, 17, 3)
    ranks = slot_ranks(positions)[valid_slots(positions)]
    assert ranks.tolist() == [3, 0, 2, 1]


def test_marked_slots_come_first_and_fillers_are_told() -> None:
    mask = torch.tensor([[False, True, False, True], [False] * 4, [True] * 4])
    indices, chosen = marked_first(mask, 3)
    assert indices.tolist() == [[1, 3, 0], [0, 1, 2], [0, 1, 2]]
    assert chosen.tolist() == [[True, True, False], [False] * 3, [True] * 3]
