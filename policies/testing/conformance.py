"""The battery that every token-selection policy passes, for policies of this package and of others.

Subclass :class:`TokenPolicyConformance` in a test file and say how the policy is built::

    from saccade.policies.conformance import TokenPolicyConformance

    class TestMyPolicy(TokenPolicyConformance):
        policy_name = "my_policy"
        policy_options = {"threshold": 0.5}

It needs pytest, onnx and onnxruntime beside torch (``pip install 'saccade-vla[export]' pytest``).
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

from saccade.policies.base import Carry, ModelShape, Place, TokenPolicy, UpdateInputs
from saccade.policies.blocks.greedy import ONNX_FORMS
from saccade.policies.registry import build_policy
from saccade.policies.testing.dry_run import (
    GRID,
    SHAPE,
    Played,
    PolicyStep,
    Scene,
    draw_scene,
    initial_carry,
    lived_in_carry,
    play,
)
from saccade.proto.errors import PolicyError

FORBIDDEN_OPS = {"NonZero", "Unique", "Loop", "If", "Scan", "SequenceEmpty", "Compress", "RandomUniform"}


class TokenPolicyConformance:
    """What every policy must hold to. Subclasses set the attributes."""

    policy_name: ClassVar[str]
    policy_options: ClassVar[Mapping[str, object]] = {}
    shape: ClassVar[ModelShape] = SHAPE
    keeps: ClassVar[tuple[int, ...]] = (1, 7, 20, GRID.tokens - 1)
    """Numbers of tokens to keep that are tried."""

    @pytest.fixture
    def policy(self) -> TokenPolicy:
        """Build the policy."""
        return build_policy(self.policy_name, self.policy_options, self.shape)

    def test_name_is_the_registry_key(self, policy: TokenPolicy) -> None:
        assert policy.name == self.policy_name

    def test_cuts_are_in_order_and_the_host_rules_make_sense(self, policy: TokenPolicy) -> None:
        orders = [cut.order for cut in policy.cuts]
        assert orders and orders == sorted(set(orders))
        assert policy.warmup_steps >= 0 and policy.refresh_every >= 0

    def test_the_schedule_never_grows(self, policy: TokenPolicy) -> None:
        for keep in self.keeps:
            counts = policy.schedule(keep)
            assert len(counts) == len(policy.cuts)
            assert all(0 <= count <= self.shape.grid.tokens for count in counts) and counts[0] >= 1
            dropping = [count for cut, count in zip(policy.cuts, counts, strict=True) if not cut.only_encodes]
            assert dropping == sorted(dropping, reverse=True)

    def test_config_survives_the_manifest(self, policy: TokenPolicy) -> None:
        config = policy.config.as_dict()
        assert build_policy(self.policy_name, config, self.shape).config == policy.config

    def test_unknown_option_is_refused(self) -> None:
        with pytest.raises(PolicyError, match="has no option 'surely_not_an_option'"):
            build_policy(self.policy_name, {"surely_not_an_option": 1}, self.shape)

    @pytest.mark.parametrize("batch", [1, 3])
    def test_keeps_exactly_k_sorted_unique_in_range(self, policy: TokenPolicy, batch: int) -> None:
        for keep in self.keeps:
            self.check(policy, draw_scene(policy, 1, batch), lived_in_carry(policy, batch), keep)

    def test_fresh_carry_selects_validly(self, policy: TokenPolicy) -> None:
        for keep in self.keeps:
            self.check(policy, draw_scene(policy, 2), initial_carry(policy), keep)

    def test_robots_of_a_batch_do_not_influence_each_other(self, policy: TokenPolicy) -> None:
        scene, carry = draw_scene(policy, 4, batch=2), lived_in_carry(policy, 2)
        for keep in self.keeps:
            together = play(policy, scene, carry, keep).kept
            for index in range(2):
                alone = {name: tensor[index : index + 1] for name, tensor in carry.items()}
                one = play(policy, scene.robots(torch.tensor([index]), GRID), alone, keep).kept
                assert torch.equal(together[index : index + 1], one)

    def test_permuting_the_batch_permutes_the_result(self, policy: TokenPolicy) -> None:
        scene, carry = draw_scene(policy, 5, batch=3), lived_in_carry(policy, 3)
        order = torch.tensor([2, 0, 1])
        keep = self.keeps[len(self.keeps) // 2]
        moved_carry = {name: tensor[order] for name, tensor in carry.items()}
        moved = play(policy, scene.robots(order, GRID), moved_carry, keep)
        assert torch.equal(moved.kept, play(policy, scene, carry, keep).kept[order])

    def test_select_and_update_are_pure(self, policy: TokenPolicy) -> None:
        scene, carry = draw_scene(policy, 6), lived_in_carry(policy)
        before = {name: tensor.clone() for name, tensor in carry.items()}
        keep, seen = self.keeps[0], UpdateInputs(scene.updates, scene.present)
        first, once = play(policy, scene, carry, keep).kept, policy.update(seen, carry)
        assert torch.equal(first, play(policy, scene, carry, keep).kept)
        assert all(torch.equal(tensor, once[name]) for name, tensor in policy.update(seen, carry).items())
        assert all(torch.equal(tensor, before[name]) for name, tensor in carry.items())

    def test_update_keeps_names_shapes_and_dtypes(self, policy: TokenPolicy) -> None:
        carry, scene = initial_carry(policy), draw_scene(policy, 7)
        following = policy.update(UpdateInputs(scene.updates, scene.present), carry)
        assert {n: (t.shape, t.dtype) for n, t in following.items()} == {
            n: (t.shape, t.dtype) for n, t in carry.items()
        }
        for spec in policy.carry_specs(GRID):
            assert spec.name.startswith("carry.") and spec.shape[0] == 1 and len(spec.dims) == len(spec.shape)

    def test_after_reset_a_used_policy_equals_a_new_one(self, policy: TokenPolicy) -> None:
        lived_in_carry(policy)
        new = build_policy(self.policy_name, self.policy_options, self.shape)
        used_carry, new_carry = initial_carry(policy), initial_carry(new)
        keep = self.keeps[len(self.keeps) // 2]
        for step in range(3):
            scene = draw_scene(policy, step)
            seen = UpdateInputs(scene.updates, scene.present)
            ours, theirs = play(policy, scene, used_carry, keep), play(new, scene, new_carry, keep)
            assert torch.equal(ours.kept, theirs.kept)
            used_carry, new_carry = policy.update(seen, used_carry), new.update(seen, new_carry)

    def test_survives_signals_that_are_not_finite(self, policy: TokenPolicy) -> None:
        scene, carry = draw_scene(policy, 8), lived_in_carry(policy)
        for signal in (*scene.signals, *scene.updates):
            signal[:, ::2] = float("nan")
        scene.embeddings[:, ::3] = float("nan")
        for keep in self.keeps:
            self.check(policy, scene, carry, keep)
        for tensor in policy.update(UpdateInputs(scene.updates, scene.present), carry).values():
            assert torch.isfinite(tensor).all()

    def test_equal_signals_select_the_same_every_time(self, policy: TokenPolicy) -> None:
        scene = draw_scene(policy, 9)
        for signal in scene.signals:
            signal.fill_(0.01)
        scene.embeddings.fill_(0.3)
        for keep in self.keeps:
            first = self.check(policy, scene, initial_carry(policy), keep)
            assert torch.equal(first.kept, play(policy, scene, initial_carry(policy), keep).kept)

    def test_onnx_equals_pytorch(self, policy: TokenPolicy, tmp_path: Path) -> None:
        keep = self.keeps[len(self.keeps) // 2]
        step = PolicyStep(policy, keep).eval()
        carry = lived_in_carry(policy)
        session = export_to_onnx(step, step.flat(draw_scene(policy, 10), carry), tmp_path / "policy.onnx")
        for seed in range(11, 17):
            feeds = step.flat(draw_scene(policy, seed), carry)
            expected = step(*feeds)
            named = {f"input_{i}": tensor.numpy() for i, tensor in enumerate(feeds)}
            used = {node.name for node in session.get_inputs()}
            found = session.run(None, {name: array for name, array in named.items() if name in used})
            np.testing.assert_array_equal(found[0], expected[0].numpy())
            for array, tensor in zip(found[1:], expected[1:], strict=True):
                np.testing.assert_allclose(array, tensor.numpy(), rtol=1e-4, atol=1e-6)
            carried = expected[len(expected) - len(step.carry_names) :]
            carry = dict(zip(step.carry_names, carried, strict=True))

    @staticmethod
    def check(policy: TokenPolicy, scene: Scene, carry: Carry, keep: int) -> Played:
        """Play a control step and check each selection."""
        played = play(policy, scene, carry, keep)
        for inputs, selection in zip(played.inputs, played.selections, strict=True):
            kept = selection.kept
            folded = policy.cuts[inputs.cut].place is Place.TOWER
            count = policy.schedule(keep)[inputs.cut] // (GRID.views if folded else 1)
            assert kept.shape == (inputs.embeddings.shape[0], count) and kept.dtype == torch.int64
            assert (kept.diff(dim=1) > 0).all() and (kept >= 0).all() and (kept < inputs.alive).all()
            if selection.mix is not None:
                assert policy.merges
                assert selection.mix.shape == (*kept.shape, inputs.alive)
                assert torch.isfinite(selection.mix).all() and (selection.mix >= 0).all()
            for note in selection.memo.values():
                assert note.shape == inputs.origin.shape
        return played


def export_to_onnx(
    step: torch.nn.Module, example: tuple[Tensor, ...], path: Path
) -> onnxruntime.InferenceSession:
    """Export with the dynamo exporter at opset 20, check the operators, and load with ONNX Runtime."""
    names = [f"input_{i}" for i in range(len(example))]
    torch.onnx.export(
        step,
        example,
        path,
        dynamo=True,
        opset_version=20,
        input_names=names,
        custom_translation_table=dict(ONNX_FORMS),
        verbose=False,
    )
    graph = onnx.load(path).graph
    assert not FORBIDDEN_OPS & {node.op_type for node in graph.node}
    assert {node.domain for node in graph.node} <= {""}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
