"""A tiny model with what the tiniest lacks: two towers of four blocks, one with a class token; eight decoder layers."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from saccade.export.families.openvla_oft.config import OftConfig
from saccade.export.families.openvla_oft.model import OpenVlaOft, initialise
from saccade.export.models.vision_transformer import VisionConfig, VisionTransformer
from saccade.export.steps.acting_step import StepOutputs
from saccade.export.steps.selecting_module import Named
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.policies.base import SelectionInputs, TokenPolicy
from tests.export.samples import CONFIG

CLASS_TOWER = 1
PLAIN = VisionConfig(image_size=24, patch_size=6, width=16, depth=4, heads=2, mlp_dim=24)
DEEP: OftConfig = replace(
    CONFIG,
    towers=(
        PLAIN,
        replace(PLAIN, class_token=True, register_tokens=2, layer_scale=True, depth=5, read_block=-2),
    ),
    decoder=replace(CONFIG.decoder, layers=8),
)
"""Two views of 4 x 4 patches."""


def deep_model(seed: int = 0) -> OpenVlaOft:
    """Seeded random weights, in eval mode; queries and keys are scaled up, so that attention is far from even."""
    model = initialise(OpenVlaOft(DEEP), seed).eval().requires_grad_(False)
    for tower in model.towers:
        for block in tower.blocks:
            block.attn.qkv.weight.mul_(3.0)
    return model


class Recorded:
    """A policy placed in a model that remembers what the policy saw at each cut, and what it said."""

    def __init__(self, model: OpenVlaOft, policy: TokenPolicy, keep: int) -> None:
        self.step, self.seen = SinglePassStep(model, policy, keep), []
        select = policy.select

        def recorded(inputs: SelectionInputs, carry: dict[str, Tensor], count: int) -> object:
            selection = select(inputs, carry, count)
            self.seen.append((inputs, selection))
            return selection

        policy.select = recorded

    def run(self, inputs: tuple[Tensor, ...]) -> StepOutputs:
        """Run one control step without carry."""
        return self.step.step(inputs, Named({}, {}))


def block_inputs(tower: VisionTransformer, images: Tensor) -> list[Tensor]:
    """What each block reads, for images ``(batch, views, height, width, 3)``, views folded into the batch."""
    hidden = [tower.begin(images.float().flatten(0, 1))]
    for block in tower.blocks:
        hidden.append(block(hidden[-1]).hidden)
    return hidden[:-1]


def attention_over_patches(tower: VisionTransformer, images: Tensor, block: int, row: int | None) -> Tensor:
    """Mean over heads of softmax(q k / sqrt(d)) over patches, ``(images, patches)``: of one row, or of all patches."""
    config, prefix = tower.config, tower.config.prefix_tokens
    hidden = tower.blocks[block].norm1(block_inputs(tower, images)[block])
    query, key, _ = tower.blocks[block].attn.qkv(hidden).chunk(3, dim=-1)
    size = config.width // config.heads
    rows = list(range(prefix, hidden.shape[1])) if row is None else [row]
    total = torch.zeros(hidden.shape[0], config.tokens)
    for head in range(config.heads):
        part = slice(head * size, (head + 1) * size)
        for one in rows:
            logits = (query[:, one : one + 1, part] * key[:, prefix:, part]).sum(dim=-1) / size**0.5
            total += logits.softmax(dim=-1)
    return total / (config.heads * len(rows))
