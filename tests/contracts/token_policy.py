"""The battery that every token-selection policy passes.

Subclass :class:`TokenPolicyContract` in ``tests/policies/test_<policy>.py`` and say how the policy is built::

    class TestMyPolicyContract(TokenPolicyContract):
        policy_name = "my_policy"
        options = {"threshold": 0.5}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from saccade.policies.base import (
    Carry,
    DecoderShape,
    Grid,
    SelectionInputs,
    TokenPolicy,
    UpdateInputs,
)
from saccade.policies.registry import build_policy
from saccade.proto.errors import PolicyError

GRID = Grid(views=2, rows=4, columns=5)
SHAPE = DecoderShape(layers=8, grid=GRID)
EMBEDDING_DIM = 16
FORBIDDEN_OPS = {"NonZero", "Unique", "Loop", "If", "Scan", "SequenceEmpty", "Compress", "RandomUniform"}


def initial_carry(policy: TokenPolicy, batch: int = 1, grid: Grid = GRID) -> Carry:
    """What reset hands to the first control step."""
    return {
        spec.name: torch.full((batch, *spec.shape[1:]), spec.initial, dtype=getattr(torch, spec.dtype))
        for spec in policy.carry_specs(grid)
    }


def selection_inputs(policy: TokenPolicy, seed: int, batch: int = 1) -> SelectionInputs:
    """Random signals: softmax rows over all keys, of which the visual ones are a part."""
    generator = torch.Generator().manual_seed(seed)
    rows = [attention_row(generator, batch) for _ in policy.select_signals]
    embeddings = torch.randn(batch, GRID.tokens, EMBEDDING_DIM, generator=generator)
    return SelectionInputs(attention=tuple(rows), embeddings=embeddings, grid=GRID)


def update_inputs(policy: TokenPolicy, seed: int, batch: int = 1) -> UpdateInputs:
    """Random signals with roughly half of the tokens absent, scattered with zeros."""
    generator = torch.Generator().manual_seed(seed)
    present = (torch.rand(batch, GRID.tokens, generator=generator) < 0.5).float()
    rows = [attention_row(generator, batch) * present for _ in policy.update_signals]
    return UpdateInputs(attention=tuple(rows), present=present)


def attention_row(generator: torch.Generator, batch: int) -> Tensor:
    """Attention that the visual tokens receive, summing to less than 1."""
    logits = 3.0 * torch.randn(batch, GRID.tokens + 10, generator=generator)
    return logits.softmax(dim=-1)[:, : GRID.tokens]


def lived_in_carry(policy: TokenPolicy, batch: int = 1, steps: int = 4) -> Carry:
    """The carry after a few control steps."""
    carry = initial_carry(policy, batch)
    for step in range(steps):
        carry = policy.update(update_inputs(policy, seed=100 + step, batch=batch), carry)
    return carry


def robot(inputs: SelectionInputs, index: int) -> SelectionInputs:
    """One robot of a batch, as a batch of 1."""
    rows = tuple(row[index : index + 1] for row in inputs.attention)
    return SelectionInputs(rows, inputs.embeddings[index : index + 1], inputs.grid)


class ControlStep(torch.nn.Module):
    """A policy alone as a graph: signals and carry in, kept indices and next carry out."""

    def __init__(self, policy: TokenPolicy, keep: int) -> None:
        super().__init__()
        self.policy, self.keep = policy, keep
        self.carry_names = [spec.name for spec in policy.carry_specs(GRID)]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Take what :meth:`flat` returns, in that order."""
        selects, updates = len(self.policy.select_signals), len(self.policy.update_signals)
        embeddings, present, *signals = tensors
        carry = dict(zip(self.carry_names, signals[selects + updates :], strict=True))
        chosen = SelectionInputs(tuple(signals[:selects]), embeddings, GRID)
        seen = UpdateInputs(tuple(signals[selects : selects + updates]), present)
        kept = self.policy.select(chosen, carry, self.keep)
        following = self.policy.update(seen, carry)
        return (kept, *(following[name] for name in self.carry_names))

    def flat(self, chosen: SelectionInputs, seen: UpdateInputs, carry: Carry) -> tuple[Tensor, ...]:
        """Return the inputs of :meth:`forward`."""
        carried = (carry[name] for name in self.carry_names)
        return (chosen.embeddings, seen.present, *chosen.attention, *seen.attention, *carried)


class TokenPolicyContract:
    """What every policy must hold to. Subclasses set the three attributes."""

    policy_name: ClassVar[str]
    options: ClassVar[Mapping[str, object]] = {}
    keeps: ClassVar[tuple[int, ...]] = (1, 7, 20, GRID.tokens)

    @pytest.fixture
    def policy(self) -> TokenPolicy:
        return build_policy(self.policy_name, self.options, SHAPE)

    def test_name_is_the_registry_key(self, policy: TokenPolicy) -> None:
        assert policy.name == self.policy_name

    def test_signals_come_from_layers_that_have_run(self, policy: TokenPolicy) -> None:
        assert 0 <= policy.insertion_layer < SHAPE.layers
        for signal in policy.select_signals:
            assert signal.layers and all(0 <= layer < policy.insertion_layer for layer in signal.layers)
        for signal in policy.update_signals:
            assert signal.layers and all(0 <= layer < SHAPE.layers for layer in signal.layers)
        sides = {layer >= policy.insertion_layer for each in policy.update_signals for layer in each.layers}
        assert len(sides) <= 1, "`present` has one meaning"
        assert policy.warmup_steps >= 0 and policy.refresh_every >= 0

    def test_config_survives_the_manifest(self, policy: TokenPolicy) -> None:
        config = policy.config.as_dict()
        assert build_policy(self.policy_name, config, SHAPE).config == policy.config

    def test_unknown_option_is_refused(self) -> None:
        with pytest.raises(PolicyError, match="has no option 'surely_not_an_option'"):
            build_policy(self.policy_name, {"surely_not_an_option": 1}, SHAPE)

    @pytest.mark.parametrize("batch", [1, 3])
    def test_keeps_exactly_k_sorted_unique_in_range(self, policy: TokenPolicy, batch: int) -> None:
        for keep in self.keeps:
            kept = policy.select(selection_inputs(policy, 1, batch), lived_in_carry(policy, batch), keep)
            assert kept.shape == (batch, keep) and kept.dtype == torch.int64
            assert_ascending_in_range(kept)

    def test_fresh_carry_selects_validly(self, policy: TokenPolicy) -> None:
        for keep in self.keeps:
            assert_ascending_in_range(policy.select(selection_inputs(policy, 2), initial_carry(policy), keep))

    def test_keeping_everything_is_the_identity(self, policy: TokenPolicy) -> None:
        kept = policy.select(selection_inputs(policy, 3, batch=2), lived_in_carry(policy, 2), GRID.tokens)
        assert torch.equal(kept, torch.arange(GRID.tokens).expand(2, -1))

    @pytest.mark.parametrize("keep", [0, -1, GRID.tokens + 1])
    def test_impossible_keep_is_refused(self, policy: TokenPolicy, keep: int) -> None:
        with pytest.raises(PolicyError, match=f"found (keep )?{keep}"):
            policy.select(selection_inputs(policy, 3), initial_carry(policy), keep)

    def test_robots_of_a_batch_do_not_influence_each_other(self, policy: TokenPolicy) -> None:
        inputs, carry = selection_inputs(policy, 4, batch=2), lived_in_carry(policy, 2)
        for keep in self.keeps:
            together = policy.select(inputs, carry, keep)
            for index in range(2):
                alone = {name: tensor[index : index + 1] for name, tensor in carry.items()}
                assert torch.equal(
                    together[index : index + 1], policy.select(robot(inputs, index), alone, keep)
                )

    def test_permuting_the_batch_permutes_the_result(self, policy: TokenPolicy) -> None:
        inputs, carry = selection_inputs(policy, 5, batch=3), lived_in_carry(policy, 3)
        order = torch.tensor([2, 0, 1])
        rows = tuple(row[order] for row in inputs.attention)
        shuffled = SelectionInputs(rows, inputs.embeddings[order], GRID)
        keep = self.keeps[len(self.keeps) // 2]
        moved = policy.select(shuffled, {name: tensor[order] for name, tensor in carry.items()}, keep)
        assert torch.equal(moved, policy.select(inputs, carry, keep)[order])

    def test_select_and_update_are_pure(self, policy: TokenPolicy) -> None:
        inputs, seen, carry = selection_inputs(policy, 6), update_inputs(policy, 6), lived_in_carry(policy)
        before = {name: tensor.clone() for name, tensor in carry.items()}
        keep = self.keeps[0]
        first = policy.select(inputs, carry, keep)
        once = policy.update(seen, carry)
        assert torch.equal(first, policy.select(inputs, carry, keep))
        assert all(torch.equal(tensor, once[name]) for name, tensor in policy.update(seen, carry).items())
        assert all(torch.equal(tensor, before[name]) for name, tensor in carry.items())

    def test_update_keeps_names_shapes_and_dtypes(self, policy: TokenPolicy) -> None:
        carry = initial_carry(policy)
        following = policy.update(update_inputs(policy, 7), carry)
        assert {n: (t.shape, t.dtype) for n, t in following.items()} == {
            n: (t.shape, t.dtype) for n, t in carry.items()
        }
        for spec in policy.carry_specs(GRID):
            assert spec.name.startswith("carry.") and spec.shape[0] == 1 and len(spec.dims) == len(spec.shape)

    def test_after_reset_a_used_policy_equals_a_new_one(self, policy: TokenPolicy) -> None:
        lived_in_carry(policy)
        new = build_policy(self.policy_name, self.options, SHAPE)
        used_carry, new_carry = initial_carry(policy), initial_carry(new)
        keep = self.keeps[len(self.keeps) // 2]
        for step in range(3):
            inputs, seen = selection_inputs(policy, step), update_inputs(policy, step)
            assert torch.equal(policy.select(inputs, used_carry, keep), new.select(inputs, new_carry, keep))
            used_carry, new_carry = policy.update(seen, used_carry), new.update(seen, new_carry)

    def test_survives_signals_that_are_not_finite(self, policy: TokenPolicy) -> None:
        inputs, seen, carry = selection_inputs(policy, 8), update_inputs(policy, 8), lived_in_carry(policy)
        for row in (*inputs.attention, *seen.attention):
            row[:, ::2] = float("nan")
        inputs.embeddings[:, ::3] = float("nan")
        for keep in self.keeps:
            assert_ascending_in_range(policy.select(inputs, carry, keep))
        for tensor in policy.update(seen, carry).values():
            assert torch.isfinite(tensor).all()

    def test_equal_signals_select_the_same_every_time(self, policy: TokenPolicy) -> None:
        inputs = selection_inputs(policy, 9)
        for row in inputs.attention:
            row.fill_(0.01)
        inputs.embeddings.fill_(0.3)
        for keep in self.keeps:
            kept = policy.select(inputs, initial_carry(policy), keep)
            assert_ascending_in_range(kept)
            assert torch.equal(kept, policy.select(inputs, initial_carry(policy), keep))

    def test_onnx_equals_pytorch(self, policy: TokenPolicy, tmp_path: Path) -> None:
        keep = self.keeps[-2] if len(self.keeps) > 1 else self.keeps[0]
        step = ControlStep(policy, keep).eval()
        carry = lived_in_carry(policy)
        example = step.flat(selection_inputs(policy, 10), update_inputs(policy, 10), carry)
        session = export_to_onnx(step, example, tmp_path / "policy.onnx")
        for seed in range(11, 19):
            feeds = step.flat(selection_inputs(policy, seed), update_inputs(policy, seed), carry)
            expected = step(*feeds)
            named = {f"input_{i}": tensor.numpy() for i, tensor in enumerate(feeds)}
            used = {node.name for node in session.get_inputs()}
            found = session.run(None, {name: array for name, array in named.items() if name in used})
            np.testing.assert_array_equal(found[0], expected[0].numpy())
            for array, tensor in zip(found[1:], expected[1:], strict=True):
                np.testing.assert_allclose(array, tensor.numpy(), rtol=1e-5, atol=1e-7)
            carry = dict(zip(step.carry_names, expected[1:], strict=True))


def export_to_onnx(
    step: ControlStep, example: tuple[Tensor, ...], path: Path
) -> onnxruntime.InferenceSession:
    """Export with the dynamo exporter at opset 20, check the operators, and load with ONNX Runtime."""
    names = [f"input_{i}" for i in range(len(example))]
    torch.onnx.export(step, example, path, dynamo=True, opset_version=20, input_names=names, verbose=False)
    graph = onnx.load(path).graph
    assert not FORBIDDEN_OPS & {node.op_type for node in graph.node}
    assert {node.domain for node in graph.node} <= {""}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def assert_ascending_in_range(kept: Tensor, tokens: int = GRID.tokens) -> None:
    """Sorted, unique, in 0..tokens-1."""
    assert (kept.diff(dim=1) > 0).all()
    assert (kept >= 0).all() and (kept < tokens).all()
