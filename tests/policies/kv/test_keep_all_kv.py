"""keep_all_kv attends to whatever the cache holds."""

from __future__ import annotations

import torch

from saccade.policies.conformance import KvPolicyConformance
from saccade.policies.kv.base import KvInputs, KvShape
from saccade.policies.kv.slots import EMPTY
from saccade.policies.registry import build_kv_policy


class TestKeepAllKv(KvPolicyConformance):
    policy_name = "keep_all_kv"


def test_free_slots_are_not_attended_to_wherever_they_lie() -> None:
    policy = build_kv_policy("keep_all_kv", {}, KvShape(1, 2, 1, 4, capacity=5))
    positions = torch.tensor([[[0, 1, EMPTY, 2, EMPTY]]])
    attended = policy.attend(KvInputs(0, (), positions, torch.tensor([2])), {})
    assert attended.slots.tolist() == [[0, 1, 2, 3, 4]]
    assert attended.chosen.tolist() == [[True, True, False, True, False]]
