"""A policy placed in the decoder: what it sees, what survives, where positions stay."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.export.steps.policy_checks import check_placement, model_shape
from saccade.export.steps.selecting_module import initial_state
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.policies.base import (
    Carry,
    Cut,
    Place,
    Selection,
    SelectionInputs,
    TokenPolicy,
    UpdateInputs,
)
from saccade.policies.config import PolicyConfig
from saccade.policies.registry import POLICIES, build_policy
from saccade.policies.signals import AttentionReceived, QueryRows, Signal, VisionAttention, VisionRows
from saccade.proto.errors import ExportError
from tests.export.samples import CONFIG, observation, tiny_model

SHAPE = model_shape(tiny_model())
KEPT = [1, 2, 6]


class KeepThese(TokenPolicy):
    """Keeps three given tokens at a given place and remembers what it was told."""

    name: ClassVar[str] = "keep_these"
    options = PolicyConfig

    def __init__(self, cut: Cut, update: tuple[Signal, ...] = ()) -> None:
        self.config = PolicyConfig()
        self.cuts = (cut,)
        self.update_signals = update
        self.seen: SelectionInputs | None = None
        self.told: UpdateInputs | None = None

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        del carry, keep
        self.seen = inputs
        return Selection(torch.tensor([KEPT]).expand(inputs.embeddings.shape[0], -1))

    def update(self, inputs: UpdateInputs, carry: Carry) -> Carry:
        self.told = inputs
        return carry


def keep_before(layer: int, select: tuple[int, ...] = (), update: tuple[int, ...] = ()) -> KeepThese:
    """Cut before a decoder layer; read text rows for the selection, action rows afterwards."""
    signals = (AttentionReceived(QueryRows.TEXT, select),) if select else ()
    updates = (AttentionReceived(QueryRows.ACTION, update),) if update else ()
    return KeepThese(Cut(Place.DECODER, layer, signals), updates)


def _by_hand(model: OpenVlaOft, inputs: tuple[Tensor, ...], layer: int) -> Tensor:
    """Drop tokens with plain indexing between two layers, then run the rest in full."""
    images, proprio, ids, mask, positions = inputs
    decoder = model.decoder
    hidden = model.embed_observation(images, proprio, ids)
    for index in range(decoder.config.layers):
        if index == layer:
            alive = [0, *(1 + token for token in KEPT), *range(9, hidden.shape[1])]
            hidden, mask, positions = hidden[:, alive], mask[:, alive], positions[:, alive]
        hidden = decoder.layers[index](hidden, decoder.rotary(positions), decoder.attention_bias(mask)).hidden
    states = model.layout.with_visual(len(KEPT)).answer_states(decoder.norm(hidden), mask)
    return model.read_actions(states)


def test_keeping_all_is_the_plain_model() -> None:
    model, inputs = tiny_model(), observation(tiny_model())
    actions, kept = _keeping_all("keep_all")(*inputs)
    assert kept.tolist() == [list(range(8))]
    # Of the last layer a control step computes only the rows that are read: other shapes, other last bits.
    torch.testing.assert_close(actions, model(*inputs), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("policy", list(POLICIES))
def test_a_policy_that_may_keep_all_changes_no_bit(policy: str) -> None:
    inputs, step = observation(tiny_model()), _keeping_all(policy)
    actions, kept, *_ = step(*inputs, *initial_state(step))
    assert kept.tolist() == [list(range(8))]
    assert torch.equal(actions, _keeping_all("keep_all")(*inputs)[0])


def _keeping_all(policy: str) -> SinglePassStep:
    return SinglePassStep(tiny_model(), build_policy(policy, {}, SHAPE), CONFIG.grid.tokens)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_dropping_is_indexing(layer: int) -> None:
    model, inputs = tiny_model(), observation(tiny_model(), batch=2)
    actions, kept = SinglePassStep(model, keep_before(layer), 3)(*inputs)
    assert kept.tolist() == [KEPT, KEPT]
    torch.testing.assert_close(actions, _by_hand(model, inputs, layer), atol=1e-5, rtol=1e-5)


def test_dropping_before_the_projector_is_dropping_before_the_decoder() -> None:
    model, inputs = tiny_model(), observation(tiny_model(), batch=2)
    policy = KeepThese(Cut(Place.PROJECTOR, 0, (VisionAttention(VisionRows.PATCHES, (0,)),)))
    actions, kept = SinglePassStep(model, policy, 3)(*inputs)
    assert kept.tolist() == [KEPT, KEPT]
    torch.testing.assert_close(actions, _by_hand(model, inputs, 0), atol=1e-5, rtol=1e-5)
    assert policy.seen is not None
    assert policy.seen.embeddings.shape == (2, 8, CONFIG.vision_width)
    torch.testing.assert_close(policy.seen.signals[0].reshape(2, 2, 4).sum(-1), torch.ones(2, 2))


def test_a_batch_selects_for_each_robot() -> None:
    model = tiny_model()
    policy = build_policy("vla_pruner", {}, SHAPE)
    step, inputs = SinglePassStep(model, policy, 4), observation(model, batch=3)
    generator = torch.Generator().manual_seed(5)
    history = torch.rand(3, *policy.carry_specs(CONFIG.grid)[0].shape[1:], generator=generator)
    age = torch.tensor([3, 0, 3])  # the second robot was just reset
    together = step(*inputs, history, age)
    for robot in range(3):
        alone = step(*(x[robot : robot + 1] for x in (*inputs, history, age)))
        for one, all_ in zip(alone, together, strict=True):
            torch.testing.assert_close(one, all_[robot : robot + 1], atol=1e-5, rtol=1e-5)


def test_signals_of_pruned_layers_return_to_original_coordinates() -> None:
    policy = keep_before(1, select=(0,), update=(1, 2))
    SinglePassStep(tiny_model(), policy, 3)(*observation(tiny_model()))
    assert policy.seen is not None
    assert policy.told is not None
    (selection,), (update,) = policy.seen.signals, policy.told.signals
    assert policy.seen.embeddings.shape == (1, 8, 16)
    assert selection.shape == update.shape == policy.told.present.shape == (1, 8)
    assert policy.told.present.nonzero()[:, 1].tolist() == update.nonzero()[:, 1].tolist() == KEPT
    assert 0 < selection.sum() < 1


def test_signals_before_the_cut_are_whole() -> None:
    policy = keep_before(2, select=(0, 1), update=(0, 1))
    SinglePassStep(tiny_model(), policy, 3)(*observation(tiny_model()))
    assert policy.told is not None
    assert policy.told.present.all()
    assert (policy.told.signals[0] > 0).all()


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (keep_before(3), r"expected decoder index 0\.\.2, found 3"),
        (keep_before(1, select=(1,)), r"decoder layers before the cut, 0\.\.0, found \(1,\)"),
        (keep_before(1, update=(3,)), r"decoder layers 0\.\.2, found \(3,\)"),
        (keep_before(1, update=(0, 1)), "between the same two cuts"),
        (KeepThese(Cut(Place.TOWER, 1)), r"expected tower index 1\.\.0, found 1"),
        (
            KeepThese(Cut(Place.PROJECTOR, 0, (VisionAttention(VisionRows.CLASS, (0,)),))),
            "tower 0 has no class token; ask for the rows of its patches",
        ),
        (
            KeepThese(Cut(Place.PROJECTOR, 0, (VisionAttention(VisionRows.PATCHES, (1,)),))),
            r"vision blocks before the cut, 0\.\.0, found \(1,\)",
        ),
    ],
)
def test_a_signal_that_cannot_be_had_is_refused(policy: TokenPolicy, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        check_placement(policy, tiny_model())
