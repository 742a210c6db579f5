"""What one control step costs, stage by stage, by the formulas of :mod:`saccade.export.cost_formulas`.

* Layer by layer, the tokens are those that the policy's cuts and its schedule leave there.
* What the policy itself adds (attention rows, similarities, merges) has no formula here: torch counts the matrix
  products of the whole module, and ``selection`` is what the formulas leave unexplained. Sorting and comparing cost no
  MAC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from saccade.export.cost_formulas import (
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
from saccade.export.families.openvla_oft import OpenVlaOft
from saccade.export.families.sequence import ACTION
from saccade.export.graph.acting import ActingStep
from saccade.export.graph.autoregressive import AutoregressiveStep
from saccade.export.graph.layer_signals import reads_only_action
from saccade.export.graph.placement import SelectingStep
from saccade.export.graph.selecting import initial_state
from saccade.export.graph.signal_store import SignalStore
from saccade.export.graph.unread_weights import unread_weights
from saccade.export.models.decoder import DecoderConfig
from saccade.export.models.vision_transformer import VisionConfig
from saccade.policies.base import Behind, Place
from saccade.policies.blocks.budgets import layer_mean
from saccade.proto.errors import ReceiptError
from saccade.proto.manifest_rules import FULL_PROFILE


def layer_configs(step: ActingStep) -> tuple[DecoderConfig, ...]:
    """Return the configuration of each decoder layer, without the heads that the policy removed from it."""
    config = step.acting[0].decoder.config
    removed = {} if step.counts is None else step.policy.removed_heads
    group = config.heads // config.kv_heads
    kept = [config.heads - len(set(removed.get(layer, ()))) for layer in range(config.layers)]
    return tuple(replace(config, heads=heads, kv_heads=heads // group) for heads in kept)


def visual_by_layer(step: ActingStep) -> tuple[int, ...]:
    """Return how many visual tokens each decoder layer computes."""
    return tuple(
        alive_at(step, (Place.DECODER, layer)) for layer in range(step.acting[0].decoder.config.layers)
    )


def layer_tokens(step: ActingStep) -> tuple[LayerTokens, ...]:
    """Return the tokens of each decoder layer."""
    layout, cuts = step.acting[0].layout, () if step.counts is None else step.policy.cuts
    remembered = any(cut.behind is Behind.LAST_STEP for cut in cuts)
    tokens = []
    for visual in visual_by_layer(step):
        alive = layout.tokens - layout.visual + visual
        tokens.append(LayerTokens(alive, alive, layout.tokens if remembered else alive))
    signals = (request for cut in cuts for request in cut.signals)
    stores = (SignalStore(signals), SignalStore(step.policy.update_signals))
    if reads_only_action(stores, len(tokens) - 1):
        tokens[-1] = tokens[-1]._replace(rows=layout.segments.get(ACTION, 1))
    return tuple(tokens)


def account_step(step: SelectingStep) -> StepAccount:
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
    configs, tokens = layer_configs(step), layer_tokens(step)
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
    family = step.acting[0]
    value_bytes = family.decoder.embed_tokens.weight.element_size()
    configs, grid = layer_configs(step), family.grid
    vision = sum(
        tower_macs(
            tower.config,
            grid.views,
            _patches_by_block(step, tower.config),
        )
        for tower in family.towers
    )
    mean = _mean_visual_tokens(step)
    weights = {
        "vision_tower": sum(map(parameters, family.towers)),
        "projector": parameters(family.projector) + own_weights,
        "decoder": parameters(family.decoder.norm)
        + sum(decoder_layer_weights(own, at.rows) for own, at in zip(configs, tokens, strict=True)),
    }
    macs = {
        "vision_tower": vision,
        "projector": own_macs + products(family.projector) * alive_at(step, (Place.PROJECTOR, 0)),
        "decoder": sum(map(decoder_layer_macs, configs, tokens)),
    }
    stages = {name: StageAccount(macs[name], value_bytes * weights[name]) for name in macs}
    return StepAccount(
        stages={**stages, **heads},
        visual_by_layer=visual_by_layer(step),
        mean_visual_tokens=mean,
        mean_keep_ratio=mean / grid.tokens,
        kv_bytes=sum(
            layer_kv_bytes(own, at.keys, value_bytes) for own, at in zip(configs, tokens, strict=True)
        ),
    )


def _patches_by_block(step: ActingStep, tower: VisionConfig) -> list[int]:
    """Patches of one view that each block sees; where they are pooled afterwards, no policy drops any there."""
    family = step.acting[0]
    if not family.keeps_patches:
        return [tower.tokens] * tower.blocks
    return [alive_at(step, (Place.TOWER, block)) // family.grid.views for block in range(tower.blocks)]


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


def account_profiles(
    account: Callable[[Any], StepAccount], steps: Mapping[str, ActingStep], frame: Sequence[Tensor]
) -> dict[str, Any]:
    """Return the accounting receipt of a bundle.

    Args:
        account: What a step of this kind costs by formula.
        steps: Of each profile, ``full`` among them.
        frame: Host inputs of one control step.

    Raises:
        ReceiptError: The module computes less than the formulas say, so that they do not describe it.
    """
    profiles = {name: _account_profile(account, step, frame) for name, step in steps.items()}
    full = profiles[FULL_PROFILE]["macs"]
    return {name: {**account, "ratio_to_full": account["macs"] / full} for name, account in profiles.items()}


def _account_profile(
    account: Callable[[Any], StepAccount], step: ActingStep, frame: Sequence[Tensor]
) -> dict[str, Any]:
    found, counted = account(step), count_macs(step, frame)
    if counted < found.macs:
        raise ReceiptError(
            f"policy {step.policy.name!r} at keep {step.keep}: expected formulas that describe the model, found "
            f"{found.macs} MACs by formula and {counted} in the module; the accounting is wrong."
        )
    stages = {**found.stages, "selection": StageAccount(counted - found.macs, 0)}
    return {
        **asdict(found),
        "stages": {name: asdict(stage) for name, stage in stages.items()},
        "macs": counted,
    }


def alive_at(step: ActingStep, place: tuple[Place, int]) -> int:
    """Visual tokens of the whole observation that are alive there, behind the cuts that lie in front of it."""
    alive = step.acting[0].grid.tokens
    if step.counts is None:
        return alive
    order = list(Place).index(place[0]), place[1]
    for cut, count in zip(step.policy.cuts, step.counts, strict=True):
        if cut.order <= order:
            alive = count
    return alive


def _mean_visual_tokens(step: ActingStep) -> float:
    cuts = () if step.counts is None else step.policy.cuts
    layers = [cut.index if cut.place is Place.DECODER else 0 for cut in cuts]
    return layer_mean(
        step.acting[0].grid.tokens, layers, step.counts or (), step.acting[0].decoder.config.layers
    )
