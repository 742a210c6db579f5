"""spatten_kv keeps the three segments of the released code."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.policies.conformance import KvPolicyConformance
from saccade.policies.kv.base import KeyPositions, KvInputs, KvShape, SlotAttention, SlotLogits
from saccade.policies.kv.slots import EMPTY
from saccade.policies.kv.spatten_kv import RECEIVED, SEEN, SpAttenKv
from saccade.policies.registry import build_kv_policy
from saccade.policies.testing.kv_dry_run import KV_SHAPE, play_kv
from saccade.proto.errors import PolicyError
from tests.policies.oracles_kv import SpAttenHead


class TestSpAttenKv(KvPolicyConformance):
    policy_name = "spatten_kv"


class TestSpAttenKvCumulative(KvPolicyConformance):
    policy_name = "spatten_kv"
    policy_options = {"importance": "cumulative", "evict": 5, "recent": 6, "start": 0}


class TestSpAttenKvRenumbered(KvPolicyConformance):
    policy_name = "spatten_kv"
    policy_options = {"positions": "slots", "evict": 3}


class TestSpAttenKvOneSlotLeft(KvPolicyConformance):
    policy_name = "spatten_kv"
    policy_options = {"start": 1, "recent": 1, "evict": 1}
    shape = KvShape(layers=2, heads=2, kv_heads=1, head_dim=4, capacity=3)


def build(shape: KvShape = KV_SHAPE, **options: object) -> SpAttenKv:
    policy = build_kv_policy("spatten_kv", options, shape)
    assert isinstance(policy, SpAttenKv)
    return policy


@given(
    seed=st.integers(0, 10_000),
    start=st.integers(0, 3),
    important=st.integers(0, 6),
    recent=st.integers(1, 6),
    evict=st.integers(1, 6),
    importance=st.sampled_from(["current", "cumulative"]),
)
def test_evictions_equal_the_oracle(
    seed: int, start: int, important: int, recent: int, evict: int, importance: str
) -> None:
    capacity = start + important + recent
    shape = KvShape(layers=1, heads=6, kv_heads=2, head_dim=8, capacity=capacity)
    options = {"start": start, "recent": recent, "evict": evict, "importance": importance}
    if evict > recent:
        with pytest.raises(PolicyError, match="'recent'"):
            build(shape, **options)
        return
    policy = build(shape, **options)
    assert policy.important == important
    cumulative = importance == "cumulative"
    heads = [[SpAttenHead(start, important, recent, evict, cumulative) for _ in range(2)] for _ in range(2)]
    for record in play_kv(policy, seed, 35, batch=2):
        (signal,) = record.inputs.signals
        assert record.evicted is not None
        for robot in range(2):
            for head in range(2):
                slots = record.inputs.positions[robot, head].tolist()
                rows = {
                    token: signal[robot, head, :, slot].tolist()
                    for slot, token in enumerate(slots)
                    if token != EMPTY
                }
                evicted = heads[robot][head].step(int(record.inputs.now[robot]), rows)
                found = record.inputs.positions[robot, head][record.evicted[robot, head]]
                assert sorted(found.tolist()) == evicted


@pytest.mark.parametrize(("start", "capacity", "segment"), [(4, 260, 128), (0, 300, 150)])
def test_the_published_segments_come_out_at_their_capacities(start: int, capacity: int, segment: int) -> None:
    policy = build(KvShape(layers=1, heads=1, kv_heads=1, head_dim=8, capacity=capacity), start=start)
    assert policy.config.as_dict()["recent"] == segment and policy.important == segment


def test_a_full_cache_shrinks_by_what_is_to_come() -> None:
    counts = [int((record.positions != EMPTY)[0, 0].sum()) for record in play_kv(build(evict=8), 0, 40)]
    assert counts == [*range(1, 24), 16, *range(17, 24), 16, *range(17, 24), 16]


def test_without_a_middle_it_is_a_window_with_sinks() -> None:
    policy = build(recent=20)
    assert policy.important == 0
    for record in play_kv(policy, 1, 60):
        now = int(record.inputs.now)
        # One slot is always free after a step: the window is the capacity less the sinks and that slot.
        held = {*range(min(4, now + 1)), *range(max(0, now - 18), now + 1)}
        assert set(record.positions[0, 1].tolist()) - {EMPTY} == held


def test_current_importance_forgets_and_cumulative_does_not() -> None:
    assert build().signals == (SlotLogits(),) and build().carry_specs() == ()
    policy = build(importance="cumulative")
    assert policy.signals == (SlotAttention(),)
    assert [(spec.name, spec.shape) for spec in policy.carry_specs()] == [
        (RECEIVED, (1, 2, 24)),
        (SEEN, (1, 2, 24)),
    ]


def test_a_late_token_is_not_judged_by_how_many_queries_missed_it() -> None:
    shape = KvShape(layers=1, heads=1, kv_heads=1, head_dim=4, capacity=4)
    policy = build(shape, start=0, recent=1, importance="cumulative")
    positions = torch.tensor([[[0, 1, 2, 3]]])
    attention = torch.tensor([[[[0.1, 0.3, 0.2, 0.4]]]])
    # Token 0 has the largest sum but four queries saw it: 0.13 each; token 2 got 0.2 from each of two.
    carry = {
        RECEIVED: torch.tensor([[[0.42, 0.6, 0.2, 0.0]]]),
        SEEN: torch.tensor([[[3.0, 2.0, 1.0, 0.0]]]),
    }
    outcome = policy.evict(KvInputs(0, (attention,), positions, torch.tensor([3])), carry)
    assert outcome.evicted.tolist() == [[[True, False, False, False]]]
    torch.testing.assert_close(outcome.carry[RECEIVED], torch.tensor([[[0.0, 0.9, 0.4, 0.4]]]))


def test_queries_of_a_prefilled_prompt_do_not_count_against_it() -> None:
    shape = KvShape(layers=1, heads=1, kv_heads=1, head_dim=4, capacity=4)
    policy = build(shape, start=0, recent=1, importance="cumulative")
    nothing = {name: torch.zeros(1, 1, 4) for name in (RECEIVED, SEEN)}
    attention = torch.tensor([[[[0.39, 0.31, 0.2, 0.1]]]])  # the first query after a prompt of three tokens
    inputs = KvInputs(0, (attention,), torch.tensor([[[0, 1, 2, 3]]]), torch.tensor([3]))
    outcome = policy.evict(inputs, nothing)
    assert outcome.evicted.tolist() == [[[False, False, False, True]]]


def test_a_logit_that_is_no_number_goes_first_and_equal_ones_by_age() -> None:
    shape = KvShape(layers=1, heads=1, kv_heads=1, head_dim=4, capacity=5)
    policy = build(shape, start=1, recent=2, evict=2)
    positions = torch.tensor([[[3, 0, 4, 2, 1]]])
    logits = torch.tensor([[[[1.0, -9.0, -9.0, math.nan, 1.0]]]])
    outcome = policy.evict(KvInputs(0, (logits,), positions, torch.tensor([4])), {})
    assert outcome.evicted.tolist() == [[[False, False, True, True, False]]]
    outcome = policy.evict(KvInputs(0, (torch.ones(1, 1, 1, 5),), positions, torch.tensor([4])), {})
    assert outcome.evicted.tolist() == [[[False, False, False, True, True]]]


def test_renumbering_is_an_option() -> None:
    assert build().positions is KeyPositions.ORIGINAL
    assert build(positions="slots").positions is KeyPositions.SLOTS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 24}, "'start' must be below the capacity 24"),
        ({"start": 0, "recent": 25}, r"in 1\.\.24"),
        ({"evict": 11}, r"'recent' must be in 11\.\.20"),
        ({"evict": 0}, "'evict' must be at least 1"),
        ({"start": -1}, "'start' must be at least 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        build(**options)
