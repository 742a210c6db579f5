"""The battery that every KV-cache policy passes, for policies of this package and of others.

Subclass :class:`KvPolicyConformance` in a test file and say how the policy is built::

    from saccade.policies.conformance import KvPolicyConformance

    class TestMyKvPolicy(KvPolicyConformance):
        policy_name = "my_kv_policy"
        policy_options = {"recent": 4}

It needs pytest, onnx and onnxruntime beside torch (``pip install 'saccade-vla[export]' pytest``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from saccade.policies.base import Carry
from saccade.policies.kv.base import (
    EvictionPolicy,
    KeyPositions,
    KvPolicy,
    KvShape,
    KvSignal,
    QuerySelectionPolicy,
    SlotAttention,
    SlotLogits,
    stacked_specs,
)
from saccade.policies.kv.slots import EMPTY
from saccade.policies.registry import build_kv_policy
from saccade.policies.testing.conformance import export_to_onnx
from saccade.policies.testing.kv_dry_run import (
    KV_SHAPE,
    MEANINGLESS,
    KvPolicyStep,
    KvRecord,
    Spoil,
    advance,
    draw_kv_signals,
    empty_slots,
    initial_kv_carry,
    play_kv,
    unspoiled,
)
from saccade.proto.errors import PolicyError


class KvPolicyConformance:
    """What every KV policy must hold to. Subclasses set the attributes."""

    policy_name: ClassVar[str]
    policy_options: ClassVar[Mapping[str, object]] = {}
    shape: ClassVar[KvShape] = KV_SHAPE
    layer: ClassVar[int] = 0
    """Number of the model's layer whose cache is played."""

    @pytest.fixture
    def policy(self) -> KvPolicy:
        """Build the policy."""
        return build_kv_policy(self.policy_name, self.policy_options, self.shape)

    def steps(self, policy: KvPolicy) -> int:
        """Return how long a cache is played: far beyond its capacity, if something makes room in it."""
        return self.shape.capacity * (3 if isinstance(policy, EvictionPolicy) else 1)

    def play(self, policy: KvPolicy, seed: int, batch: int = 1, spoil: Spoil = unspoiled) -> list[KvRecord]:
        """Play a cache from empty and check each step."""
        records = list(play_kv(policy, seed, self.steps(policy), batch, self.layer, spoil))
        for record in records:
            check(policy, record)
        return records

    def test_name_is_the_registry_key(self, policy: KvPolicy) -> None:
        assert policy.name == self.policy_name

    def test_it_is_of_one_kind_and_asks_for_what_exists_then(self, policy: KvPolicy) -> None:
        assert isinstance(policy, EvictionPolicy) != isinstance(policy, QuerySelectionPolicy)
        if isinstance(policy, QuerySelectionPolicy):
            assert not any(isinstance(request, SlotAttention) for request in policy.signals)
            assert 1 <= policy.attended <= self.shape.capacity
        if policy.positions is KeyPositions.ORIGINAL:
            distances = [request.distance for request in policy.signals if isinstance(request, SlotLogits)]
            assert set(distances) <= {None}

    def test_config_survives_the_manifest(self, policy: KvPolicy) -> None:
        config = policy.config.as_dict()
        again = build_kv_policy(self.policy_name, config, self.shape)
        assert again.config == policy.config

    def test_unknown_option_is_refused(self) -> None:
        with pytest.raises(PolicyError, match="has no option 'surely_not_an_option'"):
            build_kv_policy(self.policy_name, {"surely_not_an_option": 1}, self.shape)

    def test_carry_is_declared_for_one_layer_and_stacked_for_all(self, policy: KvPolicy) -> None:
        for one, all_layers in zip(policy.carry_specs(), stacked_specs(policy), strict=True):
            assert one.name.startswith("carry.") and one.shape[0] == 1 and len(one.dims) == len(one.shape)
            assert all_layers.shape == (1, self.shape.layers, *one.shape[1:])
            assert len(all_layers.dims) == len(all_layers.shape)

    @pytest.mark.parametrize("batch", [1, 3])
    def test_every_step_is_valid(self, policy: KvPolicy, batch: int) -> None:
        records = self.play(policy, 1, batch)
        assert len(records) == self.steps(policy)

    def test_robots_of_a_batch_do_not_influence_each_other(self, policy: KvPolicy) -> None:
        together = self.play(policy, 4, batch=3)
        for robot in range(3):
            alone = self.play(policy, 4 + robot)
            for both, one in zip(together, alone, strict=True):
                assert all(
                    torch.equal(a[robot : robot + 1], b)
                    for a, b in zip(_decided(both), _decided(one), strict=True)
                )

    def test_a_step_is_pure(self, policy: KvPolicy) -> None:
        record = self.play(policy, 6)[-1]
        generator = torch.Generator().manual_seed(0)
        positions = empty_slots(self.shape) if record.evicted is None else record.positions
        signals = draw_kv_signals(policy, positions, generator)
        before = [tensor.clone() for tensor in (positions, *signals, *record.carry.values())]
        now = record.inputs.now + 1
        first = advance(policy, self.layer, now, positions, signals, record.carry)
        second = advance(policy, self.layer, now, positions, signals, record.carry)
        after = (positions, *signals, *record.carry.values())
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(_decided(first), _decided(second), strict=True))

    def test_free_slots_lead_nobody(self, policy: KvPolicy) -> None:
        def garbage(request: KvSignal, signal: Tensor) -> Tensor:
            if isinstance(request, SlotLogits):
                return torch.where(signal == MEANINGLESS, float("nan"), signal)
            return signal

        for plain, spoiled in zip(self.play(policy, 7), self.play(policy, 7, spoil=garbage), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(_decided(plain), _decided(spoiled), strict=True))

    def test_survives_signals_that_are_not_finite(self, policy: KvPolicy) -> None:
        def broken(request: KvSignal, signal: Tensor) -> Tensor:
            del request
            signal = signal.clone()
            signal[..., ::2] = float("nan")
            signal[..., 1::5] = float("inf")
            return signal

        def all_broken(request: KvSignal, signal: Tensor) -> Tensor:
            del request
            return torch.full_like(signal, float("nan"))

        for spoil in (broken, all_broken):
            for record in self.play(policy, 8, spoil=spoil):
                assert all(torch.isfinite(tensor).all() for tensor in record.carry.values())

    def test_equal_signals_decide_the_same_every_time(self, policy: KvPolicy) -> None:
        def equal(request: KvSignal, signal: Tensor) -> Tensor:
            del request
            return torch.full_like(signal, 0.25)

        first, second = self.play(policy, 9, spoil=equal), self.play(policy, 10, spoil=equal)
        for one, other in zip(first, second, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(_decided(one), _decided(other), strict=True))

    def test_onnx_equals_pytorch(self, policy: KvPolicy, tmp_path: Path) -> None:
        step = KvPolicyStep(policy, self.layer).eval()
        positions, carry = empty_slots(self.shape), initial_kv_carry(policy)
        generator = torch.Generator().manual_seed(11)
        session = None
        for now in range(self.steps(policy)):
            signals = draw_kv_signals(policy, positions, generator)
            carried = tuple(carry[name] for name in step.carry_names)
            feeds = (torch.tensor([now]), positions, *signals, *carried)
            session = session or export_to_onnx(step, feeds, tmp_path / "policy.onnx")
            expected = step(*feeds)
            wanted = {node.name for node in session.get_inputs()}
            named = {f"input_{i}": tensor.numpy() for i, tensor in enumerate(feeds)}
            found = session.run(None, {name: array for name, array in named.items() if name in wanted})
            for array, tensor in zip(found, expected, strict=True):
                if tensor.is_floating_point():
                    np.testing.assert_allclose(array, tensor.numpy(), rtol=1e-4, atol=1e-6)
                else:
                    np.testing.assert_array_equal(array, tensor.numpy())
            names = step.carry_names
            positions = expected[-1 - len(names)]
            carry = dict(zip(names, expected[len(expected) - len(names) :], strict=True))


def check(policy: KvPolicy, record: KvRecord) -> None:
    """Check shapes, dtypes and ranges of one step."""
    inputs = record.inputs
    batch, valid = inputs.positions.shape[0], inputs.valid
    _check_carry(policy, record.carry, batch)
    if record.evicted is not None:
        assert record.evicted.shape == inputs.positions.shape and record.evicted.dtype == torch.bool
        assert (valid | ~record.evicted).all()
        assert (record.positions == EMPTY).any(dim=-1).all(), "the cache is full after the step"
        below = -1 - torch.arange(record.positions.shape[-1])
        held = torch.where(record.positions == EMPTY, below, record.positions)
        assert (held.sort(dim=-1).values.diff(dim=-1) > 0).all(), "a token is held twice"
        return
    assert isinstance(policy, QuerySelectionPolicy) and record.slots is not None
    assert record.chosen is not None and record.chosen.dtype == torch.bool
    assert record.slots.dtype == torch.int64
    assert record.slots.shape == record.chosen.shape == (batch, policy.attended)
    for robot in range(batch):
        slots = record.slots[robot][record.chosen[robot]]
        assert (slots.diff() > 0).all() and (slots >= 0).all() and (slots < valid.shape[-1]).all()
        assert valid[robot, 0, slots].all()
        assert inputs.now[robot] in inputs.positions[robot, 0, slots], "a query must attend to itself"
        assert not record.chosen[robot, len(slots) :].any(), "fillers come last"


def _check_carry(policy: KvPolicy, carry: Carry, batch: int) -> None:
    expected = {
        spec.name: ((batch, *spec.shape[1:]), getattr(torch, spec.dtype)) for spec in policy.carry_specs()
    }
    assert {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in carry.items()} == expected


def _decided(record: KvRecord) -> tuple[Tensor, ...]:
    """Return what the policy decided; of a selection only what is attended to."""
    if record.evicted is not None:
        return record.evicted, record.positions
    assert record.slots is not None and record.chosen is not None
    return record.slots * record.chosen, record.chosen
