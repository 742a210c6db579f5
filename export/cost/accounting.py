"""What one control step costs, stage by stage, by the formulas of :mod:`saccade.export.cost.formulas`.

* Layer by layer, the tokens are those that the policy's cuts and its schedule leave there.
* What the policy itself adds (attention rows, similarities, merges) has no formula here: torch counts the matrix
  products of the whole module, and ``selection`` is what the formulas leave unexplained. Sorting and comparing cost no
  MAC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from saccade.export.cost.cut_plan import CutPlan
from saccade.export.cost.formulas import (
    LayerTokens,
    StageAccount,
    StepAccount,
    decoder_layer_macs,
    decoder_layer_weights,
    layer_kv_bytes,
    parameters,
    products,
    tower_macs,
)
from saccade.export.families.base import PerceivingFamily
from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.export.families.sequence import ACTION
from saccade.export.lowering.unread_weights import unread_weights
from saccade.export.models.vision_transformer import VisionConfig
from saccade.export.steps.acting_step import ActingStep
from saccade.export.steps.autoregressive_step import AutoregressiveStep
from saccade.export.steps.selecting_module import initial_state
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.policies.base import Place


def cut_plan(step: ActingStep) -> CutPlan:
    """Return where a control step drops visual tokens."""
    return CutPlan.of(step.policy, step.counts, step.family.decoder.config.layers)


def layer_tokens(step: ActingStep, last_rows: int | None = None) -> tuple[LayerTokens, ...]:
    """Return the tokens of each decoder layer.

    Args:
        step: The module.
        last_rows: Rows of the last layer that are read; None = those of actions, or the last.
    """
    family = step.family
    rows = family.layout.segments.get(ACTION, 1) if last_rows is None else last_rows
    return cut_plan(step).layer_tokens(family.layout, family.decoder.config.layers, rows)


def account_step(step: SinglePassStep) -> StepAccount:
    """Return what a control step of a single-pass family costs.

    Args:
        step: OpenVLA-OFT with the policy in it; only shapes are looked at, so that it may live on the meta device.
    """
    model = step.family
    assert isinstance(model, OpenVlaOft)  # noqa: S101 - the one single-pass family
    value_bytes = model.decoder.embed_tokens.weight.element_size()
    head = StageAccount(
        model.config.chunk * products(model.action_head), value_bytes * parameters(model.action_head)
    )
    return compose_account(
        step,
        layer_tokens(step),
        own_macs=products(model.proprio_projector),
        own_weights=parameters(model.proprio_projector),
        heads={"action_head": head},
    )


def account_autoregressive(step: AutoregressiveStep) -> StepAccount:
    """Return what a control step of an autoregressive family costs.

    ``decoder`` is the prompt's pass, ``decode`` those of the further action tokens, which read every weight again.

    Args:
        step: The model with the policy in it; only shapes are looked at.
    """
    decoder, head, passes = step.family.decoder, step.family.lm_head, step.action_dim
    value_bytes = decoder.embed_tokens.weight.element_size()
    configs, tokens = cut_plan(step).layer_configs(decoder.config), layer_tokens(step)
    layers = list(zip(configs, tokens, strict=True))
    further = [
        decoder_layer_macs(config, LayerTokens(1, 1, at.keys + number))
        for number in range(1, passes)
        for config, at in layers
    ]
    weights = sum(map(decoder_layer_weights, configs)) + parameters(decoder.norm)
    account = compose_account(
        step,
        tokens,
        own_macs=0,
        own_weights=0,
        heads={
            "decode": StageAccount(sum(further), value_bytes * weights, passes - 1),
            "lm_head": StageAccount(passes * products(head), value_bytes * parameters(head), passes),
        },
    )
    kept = sum(layer_kv_bytes(config, at.keys + passes - 1, value_bytes) for config, at in layers)
    return replace(account, kv_bytes=kept)


def compose_account(
    step: ActingStep,
    tokens: Sequence[LayerTokens],
    *,
    own_macs: int,
    own_weights: int,
    heads: Mapping[str, StageAccount],
) -> StepAccount:
    """Put together what all families have, and what one has beside it.

    Args:
        step: A family, which has a ``projector``, with the policy in it.
        tokens: Of each decoder layer.
        own_macs: Of what the family puts into the sequence beside visual tokens and text.
        own_weights: Parameters of that.
        heads: Stages that follow the decoder.
    """
    family = step.family
    value_bytes = family.decoder.embed_tokens.weight.element_size()
    plan, grid = cut_plan(step), family.grid
    configs = plan.layer_configs(family.decoder.config)
    vision = sum(
        tower_macs(
            tower.config,
            grid.views,
            patches_by_block(family, tower.config, plan, grid.views),
        )
        for tower in family.towers
    )
    visual = plan.visual_by_layer(grid.tokens, family.decoder.config.layers)
    mean = sum(visual) / len(visual)
    weights = {
        "vision_tower": sum(map(parameters, family.towers)),
        "projector": parameters(family.projector) + own_weights,
        "decoder": parameters(family.decoder.norm)
        + sum(decoder_layer_weights(own, at.rows) for own, at in zip(configs, tokens, strict=True)),
    }
    macs = {
        "vision_tower": vision,
        "projector": own_macs + products(family.projector) * plan.alive(grid.tokens, Place.PROJECTOR),
        "decoder": sum(map(decoder_layer_macs, configs, tokens)),
    }
    stages = {name: StageAccount(macs[name], value_bytes * weights[name]) for name in macs}
    return StepAccount(
        stages={**stages, **heads},
        visual_by_layer=visual,
        mean_visual_tokens=mean,
        mean_keep_ratio=mean / grid.tokens,
        kv_bytes=sum(
            layer_kv_bytes(own, at.keys, value_bytes) for own, at in zip(configs, tokens, strict=True)
        ),
    )


def patches_by_block(
    family: PerceivingFamily, tower: VisionConfig, plan: CutPlan, pictures: int
) -> list[int]:
    """Patches of one picture that each block sees; where they are pooled afterwards, no policy drops any there."""
    if not family.keeps_patches:
        return [tower.tokens] * tower.blocks
    return [plan.alive(family.grid.tokens, Place.TOWER, block) // pictures for block in range(tower.blocks)]


def count_macs(step: ActingStep, frame: Sequence[Tensor]) -> int:
    """Let torch count the MACs of a control step; nothing is computed.

    Args:
        step: The module.
        frame: Host inputs; only their shapes matter.
    """
    return count_module(step, (*frame, *initial_state(step)))


def count_module(module: nn.Module, inputs: Sequence[Tensor]) -> int:
    """Let torch count the MACs of a module; nothing is computed, and no mapped weight is read."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with (
        torch.no_grad(),
        unread_weights(module, mode),
        mode,
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        module(*(mode.from_tensor(x) for x in inputs))
    return int(counter.get_total_flops()) // 2
