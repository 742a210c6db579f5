"""scissorhands equals its formula, with the window counted by block instead of kept."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.policies.conformance import KvPolicyConformance
from saccade.policies.kv.base import KvInputs, KvShape
from saccade.policies.kv.scissorhands import BLOCKS, Scissorhands, ScissorhandsConfig
from saccade.policies.kv.slots import EMPTY
from saccade.policies.registry import build_kv_policy
from saccade.policies.testing.kv_dry_run import KV_SHAPE, empty_slots, initial_kv_carry, play_kv
from saccade.proto.errors import PolicyError
from tests.policies.oracles_kv import ScissorhandsHead, votes_against


class TestScissorhands(KvPolicyConformance):
    policy_name = "scissorhands"


class TestScissorhandsSmallBlocks(KvPolicyConformance):
    policy_name = "scissorhands"
    policy_options = {"window": 7, "evict_share": 0.13, "recent": 2, "start": 3, "scope": "layer"}


class TestScissorhandsLayerBudget(KvPolicyConformance):
    policy_name = "scissorhands"
    policy_options = {"budgets": [9, 16, 24], "recent": 3}


class TestScissorhandsOneSlotAtATime(KvPolicyConformance):
    policy_name = "scissorhands"
    policy_options = {"evict_share": 0.01, "recent": 1, "window": 1}
    shape = KvShape(layers=1, heads=3, kv_heads=3, head_dim=4, capacity=2)


def build(shape: KvShape = KV_SHAPE, **options: object) -> Scissorhands:
    policy = build_kv_policy("scissorhands", options, shape)
    assert isinstance(policy, Scissorhands)
    return policy


@given(
    seed=st.integers(0, 10_000),
    capacity=st.integers(4, 16),
    window=st.integers(1, 20),
    recent=st.integers(0, 3),
    start=st.integers(0, 2),
    share=st.floats(0.01, 0.6),
)
def test_evictions_equal_the_oracle_that_keeps_every_vote(
    seed: int, capacity: int, window: int, recent: int, start: int, share: float
) -> None:
    shape = KvShape(layers=1, heads=4, kv_heads=2, head_dim=8, capacity=capacity)
    evict = max(1, int(share * capacity))
    options = {"window": window, "recent": recent, "start": start, "evict_share": share}
    if start + recent + evict > capacity:
        with pytest.raises(PolicyError, match="'evict_share'"):
            build(shape, **options)
        return
    heads = [[ScissorhandsHead(capacity, window, recent, evict, start) for _ in range(2)] for _ in range(2)]
    for record in play_kv(build(shape, **options), seed, 40, batch=2):
        (attention,) = record.inputs.signals
        assert record.evicted is not None
        for robot in range(2):
            for head in range(2):
                slots = record.inputs.positions[robot, head].tolist()
                rows = {
                    token: attention[robot, head, :, slot].tolist()
                    for slot, token in enumerate(slots)
                    if token != EMPTY
                }
                evicted = heads[robot][head].step(int(record.inputs.now[robot]), rows)
                found = record.inputs.positions[robot, head][record.evicted[robot, head]]
                assert sorted(found.tolist()) == evicted


def test_heads_that_vote_as_one_evict_as_one() -> None:
    policy = build(scope="layer", window=9, recent=4)
    oracle = ScissorhandsHead(budget=24, window=9, recent=4, evict=12)
    evictions = 0
    for record in play_kv(policy, 3, 70):
        (attention,) = record.inputs.signals
        assert record.evicted is not None
        slots = record.inputs.positions[0, 0].tolist()
        assert slots == record.inputs.positions[0, 1].tolist()
        now = int(record.inputs.now)
        oracle.cached.append(now)
        votes = {
            token: votes_against(attention[0, :, :, slot].flatten().tolist(), len(oracle.cached))
            for slot, token in enumerate(slots)
            if token != EMPTY
        }
        evicted = oracle.judge(now, votes)
        assert sorted(record.inputs.positions[0, 1][record.evicted[0, 1]].tolist()) == evicted
        evictions += bool(evicted)
    assert evictions == 1 + (70 - 24) // 12


def test_half_of_a_full_layer_goes_and_then_it_fills_again() -> None:
    counts = [int((record.positions != EMPTY)[0, 0].sum()) for record in play_kv(build(), 0, 48)]
    assert counts == [*range(1, 24), *range(12, 24), *range(12, 24), 12]


def test_budgets_of_layers_hold_below_the_capacity() -> None:
    policy = build(budgets=[9, 16, 24], recent=3)
    for layer, budget in enumerate((9, 16, 24)):
        for record in play_kv(policy, 5, 60, layer=layer):
            held = (record.inputs.positions != EMPTY).sum(dim=-1)
            assert (held <= budget).all() and (record.positions != EMPTY).sum(dim=-1).max() < budget
            assert (record.positions[..., budget:] == EMPTY).all()


def test_recent_and_first_tokens_are_never_given_up() -> None:
    for record in play_kv(build(recent=7, start=2, evict_share=0.6), 8, 90):
        now = int(record.inputs.now)
        held = set(record.positions[0, 1].tolist())
        assert {*range(min(2, now + 1)), *range(max(0, now - 6), now + 1)} <= held


def test_with_no_preference_the_oldest_go() -> None:
    shape = KvShape(layers=1, heads=2, kv_heads=1, head_dim=4, capacity=6)
    policy = build(shape, recent=1)
    positions, carry = empty_slots(shape), initial_kv_carry(policy)
    for now in range(6):
        positions[0, 0, now] = now
        valid = (positions >= 0).unsqueeze(2).expand(-1, -1, 2, -1)
        even = torch.where(valid, 1.0 / (now + 1), 0.0)
        outcome = policy.evict(KvInputs(0, (even,), positions, torch.tensor([now])), carry)
        carry = outcome.carry
    assert outcome.evicted[0, 0].nonzero().flatten().tolist() == [0, 1, 2]
    assert carry[BLOCKS].sum() == 0.0  # the uniform share itself is not below it


def test_a_prompt_beyond_a_budget_is_worn_down() -> None:
    policy = build(budgets=[8, 8, 8], recent=2)
    positions = torch.arange(20).expand(1, 2, -1)
    positions = torch.cat([positions, torch.full((1, 2, 4), EMPTY)], dim=2)
    even = torch.full((1, 2, 2, 24), 0.05)
    outcome = policy.evict(KvInputs(0, (even,), positions, torch.tensor([19])), initial_kv_carry(policy))
    assert outcome.evicted.sum(dim=-1).tolist() == [[4, 4]]


def test_defaults_are_those_remembered_from_the_paper() -> None:
    policy = build(KvShape(layers=2, heads=8, kv_heads=8, head_dim=64, capacity=1000))
    assert policy.config == ScissorhandsConfig(
        budgets=(1000, 1000), window=400, recent=10, evict_share=0.5, start=0, scope="head"
    )
    assert policy.evicts == (500, 500)
    assert policy.carry_specs()[0].shape == (
        1,
        8,
        1,
        1000,
    )  # the window ends inside one block: one counter a slot


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budgets": [24, 24]}, "one for each of 3 layers"),
        ({"budgets": [24, 25, 24]}, r"in 1\.\.24, the capacity"),
        ({"window": 0}, "'window' must be at least 1"),
        ({"recent": 20}, "12 of 24 slots can go beside 0 first and 20 recent ones"),
        ({"evict_share": 0.0}, "above 0 and at most 1"),
        ({"scope": "model"}, "one of 'head', 'layer'"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        build(**options)
