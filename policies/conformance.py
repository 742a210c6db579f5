"""The battery that every token-selection policy passes, for policies of this package and of others.

Subclass :class:`TokenPolicyConformance` in a test file and say how the policy is built::

    from saccade.policies.conformance import TokenPolicyConformance

    class TestMyPolicy(TokenPolicyConformance):
        policy_name = "my_policy"
        policy_options = {"threshold": 0.5}

It needs pytest, onnx and onnxruntime beside torch (``pip install saccade[export] pytest``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    Cut,
    Grid,
    ModelShape,
    Place,
    Selection,
    SelectionInputs,
    TokenPolicy,
    TowerShape,
    UpdateInputs,
)
from saccade.policies.registry import build_policy
from saccade.policies.signals import (
    AttentionByRow,
    Pixels,
    Signal,
    ViewScores,
    VisionKeys,
    VisionMap,
)
from saccade.proto.errors import PolicyError

GRID = Grid(views=2, rows=4, columns=5)
SHAPE = ModelShape(
    layers=8,
    grid=GRID,
    towers=(TowerShape(blocks=6, has_class_token=False), TowerShape(4, has_class_token=True)),
)
ONE_TOWER = replace(SHAPE, towers=(TowerShape(blocks=6, has_class_token=True),))
WIDTH, TEXT, HEADS = 16, 6, 3
FORBIDDEN_OPS = {"NonZero", "Unique", "Loop", "If", "Scan", "SequenceEmpty", "Compress", "RandomUniform"}


@dataclass(frozen=True)
class Scene:
    """Random signals of one control step, whole: every request in original coordinates.

    Args:
        signals: What was asked for at any cut.
        updates: What was asked for after the action, 0 where ``present`` is.
        embeddings: ``(batch, tokens, WIDTH)``.
        text: ``(batch, TEXT, WIDTH)``.
        text_mask: bool ``(batch, TEXT)``.
        present: float ``(batch, tokens)``.
    """

    signals: tuple[Tensor, ...]
    updates: tuple[Tensor, ...]
    embeddings: Tensor
    text: Tensor
    text_mask: Tensor
    present: Tensor

    def robots(self, index: Tensor, grid: Grid) -> Scene:
        """Return some robots of the batch."""
        batch = self.embeddings.shape[0]

        def pick(x: Tensor) -> Tensor:
            if x.shape[0] == batch:
                return x[index]
            return x.reshape(batch, grid.views, *x.shape[1:])[index].flatten(0, 1)

        return Scene(
            tuple(map(pick, self.signals)),
            tuple(map(pick, self.updates)),
            *(pick(x) for x in (self.embeddings, self.text, self.text_mask, self.present)),
        )


def requests(policy: TokenPolicy) -> tuple[Signal, ...]:
    """Return every signal that some cut asks for, once."""
    return tuple(dict.fromkeys(signal for cut in policy.cuts for signal in cut.signals))


def draw_scene(policy: TokenPolicy, seed: int, batch: int = 1, grid: Grid = GRID) -> Scene:
    """Draw random signals: softmax rows over all keys, the visual ones a part of them; half of the tokens absent."""
    generator = torch.Generator().manual_seed(seed)
    signals = tuple(_draw(request, batch, grid, generator) for request in requests(policy))
    embeddings = torch.randn(batch, grid.tokens, WIDTH, generator=generator)
    text = torch.randn(batch, TEXT, WIDTH, generator=generator)
    text_mask = torch.arange(TEXT).expand(batch, -1) < TEXT - 2
    present = (torch.rand(batch, grid.tokens, generator=generator) < 0.5).float()
    updates = []
    for request in policy.update_signals:
        value = _draw(request, batch, grid, generator)
        mask = present.reshape(*present.shape, *([1] * (value.dim() - 2)))
        updates.append(value if isinstance(request, Pixels) else value * mask)
    return Scene(signals, tuple(updates), embeddings, text, text_mask, present)


def _draw(request: Signal, batch: int, grid: Grid, generator: torch.Generator) -> Tensor:
    """Draw one whole signal."""
    if isinstance(request, VisionMap):
        logits = torch.randn(batch * grid.views, HEADS, grid.per_view, grid.per_view, generator=generator)
        return (2.0 * logits).softmax(dim=-1)
    if isinstance(request, VisionKeys):
        return torch.randn(batch, grid.tokens, WIDTH, generator=generator)
    if isinstance(request, Pixels):
        return torch.randint(0, 256, (batch, grid.tokens, 12), generator=generator).float()
    if isinstance(request, ViewScores):
        return torch.rand(batch, grid.views, generator=generator)
    rows = (batch, TEXT) if isinstance(request, AttentionByRow) else (batch,)
    attention = (3.0 * torch.randn(*rows, grid.tokens + 10, generator=generator)).softmax(dim=-1)
    return attention[..., : grid.tokens]


def initial_carry(policy: TokenPolicy, batch: int = 1, grid: Grid = GRID) -> Carry:
    """Return what reset hands to the first control step."""
    return {
        spec.name: torch.full((batch, *spec.shape[1:]), spec.initial, dtype=getattr(torch, spec.dtype))
        for spec in policy.carry_specs(grid)
    }


def lived_in_carry(policy: TokenPolicy, batch: int = 1, steps: int = 4) -> Carry:
    """Return the carry after a few control steps."""
    carry = initial_carry(policy, batch)
    for step in range(steps):
        scene = draw_scene(policy, 100 + step, batch)
        carry = policy.update(UpdateInputs(scene.updates, scene.present), carry)
    return carry


@dataclass(frozen=True)
class Played:
    """What one control step selected.

    Args:
        selections: Of each cut that kept any token.
        inputs: What the policy saw there.
        kept: Original indices after the last of them, ``(batch, keep)``.
    """

    selections: tuple[Selection, ...]
    inputs: tuple[SelectionInputs, ...]
    kept: Tensor


def play(policy: TokenPolicy, scene: Scene, carry: Carry, keep: int, grid: Grid = GRID) -> Played:
    """Make every cut of one control step on random signals, as the exporter would in a model."""
    batch = scene.embeddings.shape[0]
    origin = torch.arange(grid.tokens).expand(batch, -1)
    embeddings = scene.embeddings
    memo: Mapping[str, Tensor] = {}
    whole = dict(zip(requests(policy), scene.signals, strict=True))
    selections, seen = [], []
    for number, count in enumerate(policy.schedule(keep)):
        if count == 0:
            break
        cut = policy.cuts[number]
        inputs = _inputs_at(number, cut, whole, origin, embeddings, memo, scene, grid)
        folded = cut.place is Place.TOWER
        selection = policy.select(inputs, carry, count // grid.views if folded else count)
        selections.append(selection)
        seen.append(inputs)
        kept = selection.kept
        if folded:
            start = torch.arange(grid.views).unsqueeze(1) * (origin.shape[1] // grid.views)
            kept = (kept.reshape(batch, grid.views, -1) + start).flatten(1)
        memo = {name: torch.gather(note.reshape(batch, -1), 1, kept) for name, note in selection.memo.items()}
        origin = torch.gather(origin, 1, kept)
        embeddings = torch.gather(embeddings, 1, kept.unsqueeze(-1).expand(-1, -1, WIDTH))
    return Played(tuple(selections), tuple(seen), origin)


def _inputs_at(  # noqa: PLR0913, PLR0917 - everything that a policy may see
    number: int,
    cut: Cut,
    whole: Mapping[Signal, Tensor],
    origin: Tensor,
    embeddings: Tensor,
    memo: Mapping[str, Tensor],
    scene: Scene,
    grid: Grid,
) -> SelectionInputs:
    signals = tuple(_alive(request, whole[request], origin, grid) for request in cut.signals)
    if cut.place is not Place.TOWER:
        return SelectionInputs(number, signals, embeddings, origin, grid, scene.text, scene.text_mask, memo)
    views = grid.views
    per_view = [
        x if isinstance(request, VisionMap) else x.reshape(x.shape[0] * views, -1, *x.shape[2:])
        for request, x in zip(cut.signals, signals, strict=True)
    ]
    local = origin.reshape(origin.shape[0] * views, -1) % grid.per_view
    folded = embeddings.reshape(local.shape[0], -1, WIDTH)
    notes = {name: note.reshape(local.shape[0], -1) for name, note in memo.items()}
    return SelectionInputs(
        number, tuple(per_view), folded, local, grid.view, scene.text, scene.text_mask, notes
    )


def _alive(request: Signal, whole: Tensor, origin: Tensor, grid: Grid) -> Tensor:
    """Return the part of a whole signal that belongs to tokens which are alive."""
    if isinstance(request, ViewScores):
        return whole
    if isinstance(request, AttentionByRow):
        return torch.gather(whole, 2, origin.unsqueeze(1).expand(-1, whole.shape[1], -1))
    if isinstance(request, VisionMap):
        if origin.shape[1] == grid.tokens:
            return whole
        local = origin.reshape(whole.shape[0], -1) % grid.per_view
        rows = local[:, None, :, None].expand(-1, whole.shape[1], -1, whole.shape[3])
        columns = local[:, None, None, :].expand(-1, whole.shape[1], local.shape[1], -1)
        return torch.gather(torch.gather(whole, 2, rows), 3, columns)
    index = origin.reshape(*origin.shape, *([1] * (whole.dim() - 2)))
    return torch.gather(whole, 1, index.expand(*origin.shape, *whole.shape[2:]))


class PolicyStep(torch.nn.Module):
    """A policy alone as a graph: signals and carry in; kept indices, mixes and next carry out."""

    def __init__(self, policy: TokenPolicy, keep: int, grid: Grid = GRID) -> None:
        super().__init__()
        self.policy, self.keep, self.grid = policy, keep, grid
        self.carry_names = [spec.name for spec in policy.carry_specs(grid)]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Take what :meth:`flat` returns, in that order."""
        embeddings, text, text_mask, present, *rest = tensors
        selects, updates = len(requests(self.policy)), len(self.policy.update_signals)
        signals, seen = tuple(rest[:selects]), tuple(rest[selects : selects + updates])
        carry = dict(zip(self.carry_names, rest[selects + updates :], strict=True))
        scene = Scene(signals, seen, embeddings, text, text_mask, present)
        played = play(self.policy, scene, carry, self.keep, self.grid)
        mixes = [selection.mix for selection in played.selections if selection.mix is not None]
        following = self.policy.update(UpdateInputs(seen, present), carry)
        return played.kept, *mixes, *(following[name] for name in self.carry_names)

    def flat(self, scene: Scene, carry: Carry) -> tuple[Tensor, ...]:
        """Return the inputs of :meth:`forward`."""
        carried = (carry[name] for name in self.carry_names)
        inputs = (scene.embeddings, scene.text, scene.text_mask, scene.present)
        return (*inputs, *scene.signals, *scene.updates, *carried)


class TokenPolicyConformance:
    """What every policy must hold to. Subclasses set the attributes."""

    policy_name: ClassVar[str]
    policy_options: ClassVar[Mapping[str, object]] = {}
    shape: ClassVar[ModelShape] = SHAPE
    keeps: ClassVar[tuple[int, ...]] = (1, 7, 20, GRID.tokens - 1)
    """Budgets that are tried."""

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
            assert list(counts) == sorted(counts, reverse=True)
            assert counts[-1] >= 0 and 1 <= counts[0] <= self.shape.grid.tokens

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


def export_to_onnx(step: PolicyStep, example: tuple[Tensor, ...], path: Path) -> onnxruntime.InferenceSession:
    """Export with the dynamo exporter at opset 20, check the operators, and load with ONNX Runtime."""
    names = [f"input_{i}" for i in range(len(example))]
    torch.onnx.export(step, example, path, dynamo=True, opset_version=20, input_names=names, verbose=False)
    graph = onnx.load(path).graph
    assert not FORBIDDEN_OPS & {node.op_type for node in graph.node}
    assert {node.domain for node in graph.node} <= {""}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
