"""The contract's own parts: shapes, sizes, the registry of KV policies."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from saccade.policies import registry
from saccade.policies.kv.base import KvShape, stacked_specs
from saccade.policies.registry import KV_POLICIES, build_kv_policy
from saccade.policies.testing.kv_dry_run import KV_SHAPE
from saccade.proto.errors import PolicyError

OPT_6B = KvShape(layers=32, heads=32, kv_heads=32, head_dim=128, capacity=2048)
"""The smallest model of the Scissorhands paper, its whole context cached."""


@pytest.mark.parametrize("name", list(KV_POLICIES))
def test_every_policy_builds_with_defaults_and_tells_them_in_json(name: str) -> None:
    policy = build_kv_policy(name, {}, KV_SHAPE)
    config = json.loads(json.dumps(policy.config.as_dict()))
    assert policy.name == name
    assert build_kv_policy(name, config, KV_SHAPE).config == policy.config
    assert config.get("recent", 0) is not None and config.get("budgets", 0) is not None


def test_every_kv_policy_has_its_tests() -> None:
    assert [name for name in KV_POLICIES if not (Path(__file__).parent / f"test_{name}.py").is_file()] == []


def test_unknown_names_suggest_the_nearest_of_their_kind() -> None:
    with pytest.raises(
        PolicyError, match=r"no KV-cache policy is called 'scissorhand'; did you mean 'scissorhands'\?"
    ):
        build_kv_policy("scissorhand", {}, KV_SHAPE)
    with pytest.raises(PolicyError, match="no KV-cache policy is called 'fastv'"):
        build_kv_policy("fastv", {}, KV_SHAPE)


def test_a_token_policy_is_no_kv_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "KV_POLICIES", {"fastv": "saccade.policies.methods.fastv:FastV"})
    with pytest.raises(PolicyError, match="expected a KvPolicy whose name is 'fastv', found 'fastv'"):
        build_kv_policy("fastv", {}, KV_SHAPE)


def test_other_packages_have_a_group_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("mine", "saccade.policies.kv.scissorhands:Scissorhands", registry.KV_ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == entry.group else [])
    assert "mine" in registry.known_kv_policies() and "mine" not in registry.known_policies()
    with pytest.raises(PolicyError, match="expected a KvPolicy whose name is 'mine', found 'scissorhands'"):
        build_kv_policy("mine", {}, KV_SHAPE)


def test_carry_is_stacked_behind_the_batch() -> None:
    policy = build_kv_policy("token_select", {"initial": 1, "top_k": 2, "local": 3}, KV_SHAPE)
    assert [(spec.shape, spec.dims) for spec in stacked_specs(policy)] == [
        ((1, 3, 2), ("batch", "layers", "slots")),
        ((1, 3, 32), ("batch", "layers", "channels")),
    ]


@pytest.mark.parametrize(("heads", "kv_heads", "capacity"), [(4, 3, 8), (4, 2, 0), (4, 0, 8)])
def test_impossible_shapes_are_refused(heads: int, kv_heads: int, capacity: int) -> None:
    with pytest.raises(PolicyError, match="expected positive sizes"):
        KvShape(layers=1, heads=heads, kv_heads=kv_heads, head_dim=4, capacity=capacity)
