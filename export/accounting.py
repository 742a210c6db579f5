"""What one control step costs, by formula: multiply-accumulates, weights read, keys and values, stage by stage.

Conventions:

* One MAC is one multiplication and one addition of a matrix product. VLA-Pruner and TransPrune print MACs under the
  name FLOPs, VFlowOpt prints twice as many. Norms, softmax, activations and rotary embedding are not counted.
* Everything is counted that the graph computes: padding, and keys that a mask hides. The batch is one.
* Layer by layer, the tokens are those that the policy's cuts and its schedule leave there.
* What the policy itself adds (attention rows, similarities, merges) has no formula here: torch counts the matrix
  products of the whole module, and ``selection`` is what the formulas leave unexplained. Sorting and comparing cost no
  MAC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from saccade.export.families.openvla_oft import OpenVlaOft
from saccade.export.families.sequence import ACTION
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


class LayerTokens(NamedTuple):
    """Tokens of one decoder layer; the three numbers are one unless rows are left out or keys come from elsewhere.

    Args:
        rows: Tokens whose output is computed.
        computed: Tokens whose keys and values are computed.
        keys: Tokens that are attended to.
    """

    rows: int
    computed: int
    keys: int

    @classmethod
    def all_of(cls, tokens: int) -> LayerTokens:
        """Every token asks and is asked."""
        return cls(tokens, tokens, tokens)


@dataclass(frozen=True)
class StageAccount:
    """One part of the model.

    Args:
        macs: Multiply-accumulates of its matrix products.
        weight_bytes: Its parameters, each read once in a control step.
    """

    macs: int
    weight_bytes: int


@dataclass(frozen=True)
class StepAccount:
    """One control step at one budget, without what the policy itself computes.

    Args:
        stages: ``vision_tower``, ``projector`` (proprioception's is in it), ``decoder``, ``action_head``.
        visual_by_layer: Visual tokens that each decoder layer computes.
        mean_visual_tokens: Their mean over the layers.
        mean_keep_ratio: The mean as a share of all visual tokens.
        kv_bytes: Keys and values of all decoder layers: what a cache of them takes.
    """

    stages: Mapping[str, StageAccount]
    visual_by_layer: tuple[int, ...]
    mean_visual_tokens: float
    mean_keep_ratio: float
    kv_bytes: int

    @property
    def macs(self) -> int:
        """Of all stages."""
        return sum(stage.macs for stage in self.stages.values())


def decoder_layer_macs(config: DecoderConfig, tokens: LayerTokens) -> int:
    """Return the MACs of one decoder layer.

    With as many key heads as query heads and n tokens in all three places this is the papers'
    ``4 n d^2 + 2 n^2 d + 3 n d m``.
    """
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    projections = 2 * config.width * (tokens.rows * queries + tokens.computed * keys)
    attention = 2 * tokens.rows * tokens.keys * queries
    return projections + attention + 3 * tokens.rows * config.width * config.mlp_dim


def decoder_layer_weights(config: DecoderConfig) -> int:
    """Return the number of parameters of one decoder layer."""
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    biases = (queries + 2 * keys) * config.qkv_bias
    norms = 2 * config.width + 2 * config.head_dim * config.qk_norm
    return 2 * config.width * (queries + keys) + 3 * config.width * config.mlp_dim + biases + norms


def layer_kv_bytes(config: DecoderConfig, tokens: int, bytes_per_value: int) -> int:
    """Return the size of one layer's keys and values of ``tokens`` tokens."""
    return 2 * config.kv_heads * config.head_dim * tokens * bytes_per_value


def tower_macs(config: VisionConfig, images: int, alive: Sequence[int]) -> int:
    """Return the MACs of a vision tower.

    Args:
        config: Of the tower.
        images: Views.
        alive: Patches of an image that each block sees.
    """
    patch_values, width = 3 * config.patch_size**2, config.width
    total = config.tokens * patch_values * width
    for patches in alive:
        tokens = patches + config.prefix_tokens
        total += tokens * (4 * width**2 + 2 * width * config.mlp_dim) + 2 * tokens**2 * width
    return images * total


def layer_configs(step: SelectingStep) -> tuple[DecoderConfig, ...]:
    """Return the configuration of each decoder layer, without the heads that the policy removed from it."""
    config = step.family.decoder.config
    removed = {} if step.counts is None else step.policy.removed_heads
    group = config.heads // config.kv_heads
    kept = [config.heads - len(set(removed.get(layer, ()))) for layer in range(config.layers)]
    return tuple(replace(config, heads=heads, kv_heads=heads // group) for heads in kept)


def visual_by_layer(step: SelectingStep) -> tuple[int, ...]:
    """Return how many visual tokens each decoder layer computes."""
    return tuple(_alive(step, (Place.DECODER, layer)) for layer in range(step.family.decoder.config.layers))


def layer_tokens(step: SelectingStep) -> tuple[LayerTokens, ...]:
    """Return the tokens of each decoder layer."""
    layout, cuts = step.family.layout, () if step.counts is None else step.policy.cuts
    remembered = any(cut.behind is Behind.LAST_STEP for cut in cuts)
    tokens = []
    for visual in visual_by_layer(step):
        alive = layout.tokens - layout.visual + visual
        tokens.append(LayerTokens(alive, alive, layout.tokens if remembered else alive))
    signals = (request for cut in cuts for request in cut.signals)
    stores = (SignalStore(signals), SignalStore(step.policy.update_signals))
    if reads_only_action(stores, len(tokens) - 1):
        tokens[-1] = tokens[-1]._replace(rows=layout.segments[ACTION])
    return tuple(tokens)


def account_step(model: OpenVlaOft, step: SelectingStep) -> StepAccount:
    """Return what a control step costs.

    Args:
        model: ``step.family``; only shapes are looked at, so that it may live on the meta device.
        step: The model with the policy in it.
    """
    value_bytes = model.decoder.embed_tokens.weight.element_size()
    configs, tokens, visual = layer_configs(step), layer_tokens(step), visual_by_layer(step)
    grid, views = model.grid, model.grid.views
    vision = sum(
        tower_macs(
            tower.config,
            views,
            [_alive(step, (Place.TOWER, block)) // views for block in range(tower.config.blocks)],
        )
        for tower in model.towers
    )
    proprio = _products(model.proprio_projector)
    decoder = sum(map(decoder_layer_macs, configs, tokens))
    decoder_weights = sum(map(decoder_layer_weights, configs)) + _parameters(model.decoder.norm)
    mean = _mean_visual_tokens(step)
    return StepAccount(
        stages={
            "vision_tower": StageAccount(vision, value_bytes * _parameters(model.vision_backbone)),
            "projector": StageAccount(
                proprio + _products(model.projector) * _alive(step, (Place.PROJECTOR, 0)),
                value_bytes * (_parameters(model.projector) + _parameters(model.proprio_projector)),
            ),
            "decoder": StageAccount(decoder, value_bytes * decoder_weights),
            "action_head": StageAccount(
                model.config.chunk * _products(model.action_head),
                value_bytes * _parameters(model.action_head),
            ),
        },
        visual_by_layer=visual,
        mean_visual_tokens=mean,
        mean_keep_ratio=mean / grid.tokens,
        kv_bytes=sum(
            layer_kv_bytes(own, at.keys, value_bytes) for own, at in zip(configs, tokens, strict=True)
        ),
    )


def count_macs(step: SelectingStep, frame: Sequence[Tensor]) -> int:
    """Let torch count the MACs of the module; nothing is computed.

    Args:
        step: The module.
        frame: Host inputs; only their shapes matter.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with (
        torch.no_grad(),
        unread_weights(step, mode),
        mode,
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        step(*(mode.from_tensor(x) for x in (*frame, *initial_state(step))))
    return int(counter.get_total_flops()) // 2


def account_profiles(
    model: OpenVlaOft, steps: Mapping[str, SelectingStep], frame: Sequence[Tensor]
) -> dict[str, Any]:
    """Return the accounting receipt of a bundle.

    Args:
        model: What was exported.
        steps: Of each profile, ``full`` among them.
        frame: Host inputs of one control step.

    Raises:
        ReceiptError: The module computes less than the formulas say, so that they do not describe it.
    """
    profiles = {name: _account_profile(model, step, frame) for name, step in steps.items()}
    full = profiles[FULL_PROFILE]["macs"]
    return {name: {**account, "ratio_to_full": account["macs"] / full} for name, account in profiles.items()}


def _account_profile(model: OpenVlaOft, step: SelectingStep, frame: Sequence[Tensor]) -> dict[str, Any]:
    account, counted = account_step(model, step), count_macs(step, frame)
    if counted < account.macs:
        raise ReceiptError(
            f"policy {step.policy.name!r} at keep {step.keep}: expected formulas that describe the model, found "
            f"{account.macs} MACs by formula and {counted} in the module; the accounting is wrong."
        )
    stages = {**account.stages, "selection": StageAccount(counted - account.macs, 0)}
    return {
        **asdict(account),
        "stages": {name: asdict(stage) for name, stage in stages.items()},
        "macs": counted,
    }


def _alive(step: SelectingStep, place: tuple[Place, int]) -> int:
    """Visual tokens of the whole observation that are alive there, behind the cuts that lie in front of it."""
    alive = step.family.grid.tokens
    if step.counts is None:
        return alive
    order = list(Place).index(place[0]), place[1]
    for cut, count in zip(step.policy.cuts, step.counts, strict=True):
        if cut.order <= order:
            alive = count
    return alive


def _mean_visual_tokens(step: SelectingStep) -> float:
    cuts = () if step.counts is None else step.policy.cuts
    layers = [cut.index if cut.place is Place.DECODER else 0 for cut in cuts]
    return layer_mean(step.family.grid.tokens, layers, step.counts or (), step.family.decoder.config.layers)


def _products(module: nn.Module) -> int:
    """MACs of the linear layers of a module for one row."""
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear))


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
