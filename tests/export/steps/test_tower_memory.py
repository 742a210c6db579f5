"""Some patches are encoded, the others are as they were: the towers written out by hand, step after step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from saccade.export.cost.account import formula_account
from saccade.export.cost.torch_count import count_macs
from saccade.export.families.openvla_oft.config import OftConfig
from saccade.export.families.openvla_oft.model import OpenVlaOft, initialise
from saccade.export.models.vision_transformer import VisionBlock, VisionTransformer
from saccade.export.steps.policy_checks import check_placement, model_shape
from saccade.export.steps.selecting_module import initial_state
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.export.steps.tower_memory import AGES, features_name, keys_name
from saccade.policies.base import Behind, Carry, Cut, Place, Selection, SelectionInputs, TokenPolicy
from saccade.policies.config import PolicyConfig
from saccade.policies.registry import build_policy
from saccade.policies.signals import (
    NEVER_ENCODED,
    EncodedAge,
    Signal,
    VisionAttention,
    VisionKeys,
    VisionRows,
)
from saccade.proto.errors import ExportError
from saccade.proto.roofline import VISION
from tests.export import flow_models
from tests.export.policy_graphs import DEEP_CONFIG
from tests.export.samples import observation

PREFIXED = DEEP_CONFIG.towers[0]
TWO_TOWERS = replace(
    DEEP_CONFIG, towers=(PREFIXED, replace(PREFIXED, class_token=False, register_tokens=0, depth=2))
)
ENCODE = Cut(Place.TOWER, 0, (), Behind.LAST_STEP)


class EncodeThese(TokenPolicy):
    """Encodes the patches that it is told to, and drops no token."""

    name: ClassVar[str] = "encode_these"
    options = PolicyConfig

    def __init__(self, each: int, *cuts: Cut, update: tuple[Signal, ...] = ()) -> None:
        self.config, self.cuts, self.update_signals = PolicyConfig(), cuts or (ENCODE,), update
        self._each = each
        self.chosen: Tensor = torch.zeros(0)

    def schedule(self, keep: int) -> tuple[int, ...]:
        del keep
        return (self._each * DEEP_CONFIG.views,)

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        del carry
        assert keep == self._each and self.chosen.shape == (inputs.embeddings.shape[0], keep)
        return Selection(self.chosen)


def model_with(config: OftConfig = DEEP_CONFIG) -> OpenVlaOft:
    return initialise(OpenVlaOft(config), 3).eval().requires_grad_(False)


class ByHand:
    """One tower on one picture: keys, values and features of each patch, as they were computed last."""

    def __init__(self, tower: VisionTransformer) -> None:
        config = tower.config
        self.tower, self.prefix = tower, config.prefix_tokens
        rows = config.prefix_tokens + config.tokens
        self.keys = [torch.zeros(rows, config.width) for _ in tower.blocks]
        self.values = [torch.zeros(rows, config.width) for _ in tower.blocks]
        self.features = torch.zeros(config.tokens, config.width)

    def encode(self, picture: Tensor, patches: Sequence[int]) -> Tensor:
        """Encode some patches of one picture ``(height, width, 3)``; features of all."""
        rows = [*range(self.prefix), *(self.prefix + patch for patch in patches)]
        x = self.tower.begin(picture[None].float())[0, rows]
        for number, block in enumerate(self.tower.blocks):
            assert isinstance(block, VisionBlock)
            x = self._block(number, block, x, rows)
        self.features[list(patches)] = self.tower.norm(x)[self.prefix :]
        return self.features.clone()

    def _block(self, number: int, block: VisionBlock, x: Tensor, rows: list[int]) -> Tensor:
        query, self.keys[number][rows], self.values[number][rows] = block.attn.qkv(block.norm1(x)).chunk(
            3, dim=-1
        )
        size = x.shape[-1] // block.attn.heads
        heads = []
        for head in range(block.attn.heads):
            own = slice(head * size, (head + 1) * size)
            logits = query[:, own] @ self.keys[number][:, own].T / size**0.5
            heads.append(logits.softmax(dim=-1) @ self.values[number][:, own])
        x = x + block.ls1(block.attn.proj(torch.cat(heads, dim=-1)))
        return x + block.ls2(block.mlp(block.norm2(x)))


def look(step: SinglePassStep, images: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
    """Features of every patch, and the carry that the towers leave."""
    text = torch.zeros(images.shape[0], 1, step.family.decoder.config.width)
    named = step.named(tuple(carry[spec.name] for spec in step.carry_specs))
    survivors = step.watch(named, text, torch.ones(images.shape[0], 1, dtype=torch.bool))
    return step.look(images, survivors), survivors.update()


def fresh(step: SinglePassStep, batch: int) -> Carry:
    specs, state = step.carry_specs, initial_state(step)
    return {spec.name: x.expand(batch, *x.shape[1:]) for spec, x in zip(specs, state, strict=True)}


@pytest.mark.parametrize("config", [DEEP_CONFIG, TWO_TOWERS], ids=["class token and register", "two towers"])
@pytest.mark.parametrize("batch", [1, 2])
def test_what_is_not_encoded_is_as_it_was(config: OftConfig, batch: int) -> None:
    model = model_with(config)
    policy, each, views = EncodeThese(5), 5, config.views
    full = SinglePassStep(model, policy, model.grid.tokens)
    part = SinglePassStep(model, policy, model.grid.tokens - 1)
    hands = [[ByHand(tower) for tower in model.towers] for _ in range(batch * views)]
    carry, generator = fresh(full, batch), torch.Generator().manual_seed(7)
    age = torch.full((batch * views, model.grid.per_view), NEVER_ENCODED)
    for number in range(5):
        images = observation(model, batch, seed=number)[0]
        everyone = number in (0, 3)
        policy.chosen = torch.stack(
            [torch.randperm(16, generator=generator)[:each].sort().values for _ in range(batch * views)]
        )
        features, carry = look(full if everyone else part, images, carry)
        expected = []
        age = (age + 1).clamp(max=NEVER_ENCODED)
        for index, picture in enumerate(images.flatten(0, 1)):
            patches = list(range(16)) if everyone else policy.chosen[index].tolist()
            expected.append(torch.cat([hand.encode(picture, patches) for hand in hands[index]], dim=-1))
            age[index, patches] = 0.0
        torch.testing.assert_close(
            features, torch.stack(expected).reshape(batch, -1, config.vision_width), atol=1e-5, rtol=1e-4
        )
        assert torch.equal(carry[AGES], age.reshape(batch, -1))


def test_a_picture_that_stands_still_gives_the_features_of_all_patches() -> None:
    model = model_with(TWO_TOWERS)
    policy = EncodeThese(3)
    policy.chosen = torch.tensor([[1, 2, 9], [0, 7, 15]])
    full, part = (SinglePassStep(model, policy, keep) for keep in (32, 31))
    images = observation(model)[0]
    whole, carry = look(full, images, fresh(full, 1))
    again, following = look(part, images, carry)
    torch.testing.assert_close(again, whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole.flatten(0, 1), model.visual_tokens(images)[0], atol=0, rtol=0)
    for name in (keys_name(0), keys_name(1), features_name(0), features_name(1)):
        torch.testing.assert_close(following[name], carry[name], atol=1e-5, rtol=1e-5)


def test_encoding_all_is_no_cut_at_all() -> None:
    """With every patch encoded and every token kept, nothing remembered comes in: no bit differs."""
    model, inputs = model_with(), observation(model_with())
    keep_all = SinglePassStep(model, build_policy("keep_all", {}, model_shape(model)), 32)
    policy = build_policy("foveate", {"encode": 1.0, "camera_cut": 0.0}, model_shape(model))
    full, part = SinglePassStep(model, policy, 32), SinglePassStep(model, policy, 20)
    pruner = build_policy("vla_pruner", {"history": "off"}, model_shape(model))
    pruned = SinglePassStep(model, pruner, 20)
    lived = [torch.rand_like(x) if x.is_floating_point() else x for x in initial_state(full)]
    assert torch.equal(full(*inputs, *lived)[0], keep_all(*inputs)[0])
    assert torch.equal(part(*inputs, *lived)[0], pruned(*inputs)[0])
    assert part(*inputs, *lived)[2].max() == 0


def test_the_cost_is_that_of_the_patches_that_are_encoded() -> None:
    model = model_with(TWO_TOWERS)
    policy = EncodeThese(3)
    policy.chosen = torch.tensor([[1, 2, 9], [0, 7, 15]])
    step, whole = SinglePassStep(model, policy, 31), SinglePassStep(model, policy, 32)
    account, everything = formula_account(step), formula_account(whole)
    assert account.macs == count_macs(step, (*observation(model), *initial_state(step)))
    assert account.visual_by_layer == (32,) * 5
    for part, other in zip(account.parts, everything.parts, strict=True):
        assert part.name == other.name
        assert (part.macs < other.macs) == (part.name == VISION)
    remembered = sum(fresh(step, 1)[keys_name(tower)].numel() for tower in range(2))
    assert (account.parts[0].kv_values, everything.parts[0].kv_values) == (remembered, 0)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (EncodeThese(3, Cut(Place.TOWER, 1, (), Behind.LAST_STEP)), "before tower block 0, found .*tower 1"),
        (EncodeThese(3, ENCODE, Cut(Place.TOWER, 2)), "expected no patches to be dropped inside a tower"),
        (EncodeThese(3, Cut(Place.DECODER, 0, (EncodedAge(),))), "expected a cut that says which patches"),
        (EncodeThese(3, update=(EncodedAge(),)), "update: expected attention received"),
        (EncodeThese(3, update=(VisionKeys(1),)), "no signal of vision blocks, which compute some"),
        (
            EncodeThese(3, ENCODE, Cut(Place.PROJECTOR, 0, (VisionAttention(VisionRows.PATCHES, (1,)),))),
            "no signal of vision blocks, which compute some",
        ),
        (
            EncodeThese(3, ENCODE, Cut(Place.DECODER, 0, (), Behind.LAST_STEP)),
            "cut 1: tokens of the last step can be used behind a single cut",
        ),
    ],
)
def test_what_cannot_be_had_beside_it_is_refused(policy: TokenPolicy, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        check_placement(policy, model_with())


def test_a_tower_whose_patches_are_pooled_is_refused() -> None:
    with pytest.raises(ExportError, match="its patches are rearranged or pooled afterwards"):
        check_placement(EncodeThese(3), flow_models.tiny_smolvla())
