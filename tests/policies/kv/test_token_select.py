"""token_select follows the formula of the soft vote and uses a selection again while the query stays close."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.policies.conformance import KvPolicyConformance
from saccade.policies.kv.base import Attended, KeyPositions, KvInputs, KvShape, QueryHeads, SlotLogits
from saccade.policies.kv.slots import EMPTY
from saccade.policies.kv.token_select import QUERY, TokenSelect
from saccade.policies.registry import build_kv_policy
from saccade.policies.testing.kv_dry_run import KV_SHAPE, initial_kv_carry, play_kv
from saccade.proto.errors import PolicyError
from tests.policies.oracles_kv import TokenSelectLayer

SMALL = {"initial": 3, "top_k": 5, "local": 4}


class TestTokenSelect(KvPolicyConformance):
    policy_name = "token_select"


class TestTokenSelectSmall(KvPolicyConformance):
    policy_name = "token_select"
    policy_options = SMALL


class TestTokenSelectLikeTheCode(KvPolicyConformance):
    policy_name = "token_select"
    policy_options = {
        **SMALL,
        "initial": 0,
        "positions": "slots",
        "scaled": False,
        "threshold": None,
        "pool": 3,
    }


class TestTokenSelectOneOfEach(KvPolicyConformance):
    policy_name = "token_select"
    policy_options = {"initial": 1, "top_k": 1, "local": 1}
    shape = KvShape(layers=2, heads=2, kv_heads=2, head_dim=4, capacity=4)


def build(shape: KvShape = KV_SHAPE, **options: object) -> TokenSelect:
    policy = build_kv_policy("token_select", options, shape)
    assert isinstance(policy, TokenSelect)
    return policy


@given(
    seed=st.integers(0, 10_000),
    initial=st.integers(0, 4),
    top_k=st.integers(1, 8),
    local=st.integers(1, 5),
    threshold=st.one_of(st.none(), st.floats(0.6, 0.95)),
    pool=st.sampled_from([1, 3, 5]),
    scaled=st.booleans(),
)
def test_selection_equals_the_oracle(
    seed: int, initial: int, top_k: int, local: int, threshold: float | None, pool: int, scaled: bool
) -> None:
    options = {"threshold": threshold, "pool": pool, "scaled": scaled}
    policy = build(initial=initial, top_k=top_k, local=local, **options)
    oracles = [TokenSelectLayer(initial, top_k, local, threshold, pool) for _ in range(2)]
    for record in play_kv(policy, seed, KV_SHAPE.capacity, batch=2):
        query, logits = record.inputs.signals
        logits = logits if scaled else logits * math.sqrt(KV_SHAPE.head_dim)
        for robot in range(2):
            slots = record.inputs.positions[robot, 0].tolist()
            rows = {
                token: logits[robot, :, :, slot].flatten().tolist()
                for slot, token in enumerate(slots)
                if token != EMPTY
            }
            now = int(record.inputs.now[robot])
            expected = oracles[robot].step(now, query[robot].flatten().tolist(), rows)
            assert record.slots is not None and record.chosen is not None
            assert record.slots[robot][record.chosen[robot]].tolist() == expected


def test_similar_queries_share_a_selection_and_others_do_not() -> None:
    """The play that the oracle follows above has both; else the threshold would go untested."""
    counts = []
    for seed in range(4):
        oracle = TokenSelectLayer(3, 5, 4, 0.8)
        for record in play_kv(build(**SMALL, threshold=0.8), seed, KV_SHAPE.capacity):
            query, logits = record.inputs.signals
            rows = {
                token: logits[0, :, :, token].flatten().tolist()
                for token in range(int(record.inputs.now) + 1)
            }
            oracle.step(int(record.inputs.now), query.flatten().tolist(), rows)
        counts.append(oracle.reused)
    assert all(0 < count < 12 for count in counts)


def _attend(policy: TokenSelect, query: Tensor, logits: Tensor, carry: dict[str, Tensor]) -> Attended:
    positions = torch.arange(KV_SHAPE.capacity).expand(1, 2, -1)
    signals = (query.expand(1, 2, 2, 8), logits.expand(1, 2, 2, -1))
    return policy.attend(KvInputs(0, signals, positions, torch.tensor([23])), carry)


def _middle(attended: Attended) -> list[int]:
    slots = attended.slots[0][attended.chosen[0]].tolist()
    assert slots[:3] == [0, 1, 2] and slots[-4:] == [20, 21, 22, 23]
    return slots[3:-4]


def test_a_drift_is_measured_from_the_query_that_selected() -> None:
    policy = build(**SMALL, threshold=0.9)
    carry, rising = initial_kv_carry(policy), torch.linspace(-1.0, 1.0, KV_SHAPE.capacity)
    selections = []
    for step in range(4):
        angle = torch.tensor(0.3 * step)  # cos 0.3 = 0.96 and cos 0.6 = 0.83
        query = torch.cat([angle.cos().expand(4), angle.sin().expand(4)])
        attended = _attend(policy, query, rising * (1 if step == 0 else -1), carry)
        carry = attended.carry
        selections.append(_middle(attended))
    # Each query is within 0.9 of the one before; only the third has left the first behind.
    highest, lowest = [15, 16, 17, 18, 19], [3, 4, 5, 6, 7]
    assert selections == [highest, highest, lowest, lowest]


def test_a_loud_head_has_one_voice() -> None:
    policy = build(initial=3, top_k=1, local=4, threshold=None)
    logits = torch.zeros(1, 2, 2, KV_SHAPE.capacity)
    logits[0, 0, 0, 7] = 1000.0  # one head, ever so sure
    logits[0, :, 1, 9] = 4.0  # two heads, fairly sure
    logits[0, 1, 0, 9] = 4.0
    logits[0, :, :, 21] = 5000.0  # no candidate: it is attended to anyway
    assert _middle(_attend(policy, torch.ones(8), logits, initial_kv_carry(policy))) == [9]


def test_while_everything_fits_nothing_is_selected_or_remembered() -> None:
    policy = build(**SMALL)
    for record in play_kv(policy, 3, 13):
        assert record.chosen is not None and int(record.chosen.sum()) == min(12, int(record.inputs.now) + 1)
        remembered = bool(record.carry[QUERY].any())
        assert remembered == (int(record.inputs.now) == 12)


def test_votes_that_tie_go_to_the_oldest() -> None:
    policy = build(**SMALL)
    even = torch.zeros(KV_SHAPE.capacity)
    assert _middle(_attend(policy, torch.ones(8), even, initial_kv_carry(policy))) == [3, 4, 5, 6, 7]


def test_neighbours_of_a_vote_come_along_when_pooled() -> None:
    policy = build(initial=3, top_k=3, local=4, pool=3)
    logits = torch.zeros(KV_SHAPE.capacity)
    logits[11] = 3.0
    assert _middle(_attend(policy, torch.ones(8), logits, initial_kv_carry(policy))) == [10, 11, 12]


@pytest.mark.parametrize(("capacity", "selects"), [(2688, False), (2689, True)])
def test_the_published_budget_is_2688_tokens(capacity: int, selects: bool) -> None:
    policy = build(KvShape(layers=1, heads=4, kv_heads=2, head_dim=8, capacity=capacity))
    assert policy.attended == 2688 == 128 + 2048 + 512
    assert bool(policy.signals) is bool(policy.carry_specs()) is selects


def test_the_code_votes_from_a_fixed_distance() -> None:
    assert build(**SMALL).signals == (QueryHeads(), SlotLogits())
    like_the_code = build(**SMALL, positions="slots")
    assert like_the_code.signals == (QueryHeads(), SlotLogits(distance=4))
    assert like_the_code.positions is KeyPositions.SLOTS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"local": 0}, "a query attends to itself"),
        ({"top_k": 0}, "'top_k' must be at least 1"),
        ({"initial": -1}, "'initial' must be at least 0"),
        ({"threshold": 0.0}, "above 0 and at most 1, or null"),
        ({"threshold": 1.5}, "above 0 and at most 1, or null"),
        ({"pool": 2}, "odd and positive"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        build(**options)
