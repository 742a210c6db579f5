"""What every part of a model multiplies and reads, by formula, for every kind of step; conventions as in ``formulas``.

Everything is counted that our graphs compute: padding, keys that a mask hides, of the last layer the rows that are
read. Folded, and so not counted: position tables, time embeddings, modulations, and the frame axis of a still picture's
patches (Qwen-VL). What a policy computes itself has no formula. Attention of a causal decoder counts whole, since its
mask is added in our graphs; a kernel that knows the mask needs half of that, which matters in long videos only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from torch import nn

from saccade.export.cost.cut_plan import CutPlan
from saccade.export.cost.formulas import (
    LayerTokens,
    decoder_layer_macs,
    decoder_layer_weights,
    parameters,
    products,
    tower_macs,
)
from saccade.export.families.autoregressive import AutoregressiveModel
from saccade.export.families.base import PerceivingFamily, SinglePassFamily, StepKind
from saccade.export.families.flow_family import FlowFamily
from saccade.export.families.generating import GeneratingModel
from saccade.export.families.sequence import ACTION
from saccade.export.models.decoder import DecoderConfig
from saccade.policies.base import Place
from saccade.proto.roofline import (
    ACTION_HEAD,
    DECODE,
    DECODER,
    DENOISE,
    LM_HEAD,
    PREFILL,
    PREFIX,
    PROJECTOR,
    VISION,
    Part,
)


def model_parts(family: PerceivingFamily, plan: CutPlan, new_tokens: int = 1) -> tuple[Part, ...]:
    """Return what the parts of a model do in one control step, or in one answer.

    Args:
        family: Model whose parts are counted; only its shapes are looked at, and time may be folded into constants or
            not.
        plan: Where visual tokens are dropped.
        new_tokens: Tokens of an answer, in a family that answers: the prompt gives the first, each other takes a pass.
    """
    rest = _PARTS[family.step_kind](family, plan, new_tokens)
    return vision_part(family, plan), projector_part(family, plan), *rest


def vision_part(family: PerceivingFamily, plan: CutPlan) -> Part:
    """Return what bringing pictures to size and the towers do."""
    macs, weights, read = family.fit_macs, 0, 0
    share = plan.encoded(family.grid.tokens) / family.grid.tokens
    for tower in family.towers:
        seen = _patches_by_block(family, tower.config.patches, tower.config.run_blocks, plan)
        macs += tower_macs(tower.config, family.pictures, seen, [round(share * patches) for patches in seen])
        weights += sum(weight.numel() for weight in tower.parameters())
        if share < 1:
            read += 2 * tower.config.width * family.pictures * sum(seen)
    return Part(VISION, macs, weights, kv_values=read)


def projector_part(family: PerceivingFamily, plan: CutPlan) -> Part:
    """Return what brings visual tokens, and the robot's state, to the decoder's width."""
    state, pooling = family.state_values, family.pooling
    rows = plan.alive(family.grid.tokens, Place.PROJECTOR) if pooling is None else pooling.projected
    macs = (
        state.macs + (0 if pooling is None else pooling.macs) + rows * sum(map(products, family.projectors))
    )
    return Part(PROJECTOR, macs, state.weights + sum(map(parameters, family.projectors)))


def cache_values(family: PerceivingFamily, plan: CutPlan, new_tokens: int = 1) -> int:
    """Return how many numbers of keys and values all decoder layers make: what a cache of them holds."""
    further = _said_tokens(family, new_tokens) - 1
    configs = plan.layer_configs(family.decoder.config)
    return sum(
        _kv_values(own) * (layer.keys + further)
        for own, layer in zip(configs, _layer_tokens(family, plan), strict=True)
    )


def _said_tokens(family: PerceivingFamily, new_tokens: int) -> int:
    """Tokens that go through the decoder's end, one after the other."""
    if family.step_kind is StepKind.AUTOREGRESSIVE:
        return cast("AutoregressiveModel", family).action_dim
    return new_tokens if family.step_kind is StepKind.PROMPT else 1


def _patches_by_block(family: PerceivingFamily, patches: int, blocks: int, plan: CutPlan) -> list[int]:
    """Patches of one picture that each block sees; where they are pooled afterwards, no policy drops any there."""
    if not family.keeps_patches:
        return [patches] * blocks
    return [plan.alive(family.grid.tokens, Place.TOWER, block) // family.pictures for block in range(blocks)]


def _layer_tokens(family: PerceivingFamily, plan: CutPlan) -> tuple[LayerTokens, ...]:
    """Tokens of each decoder layer; of a prefix that an expert reads, the last gives keys and values alone."""
    rows = 0 if family.step_kind is StepKind.FLOW else family.layout.segments.get(ACTION, 1)
    return plan.layer_tokens(family.layout, family.decoder.config.layers, rows)


def _decoder_part(name: str, family: PerceivingFamily, plan: CutPlan, tokens: Sequence[LayerTokens]) -> Part:
    configs = plan.layer_configs(family.decoder.config)
    weights = sum(decoder_layer_weights(own, at.rows) for own, at in zip(configs, tokens, strict=True))
    macs = sum(map(decoder_layer_macs, configs, tokens))
    return Part(name, macs, weights + parameters(family.decoder.norm))


def _single_pass_parts(family: SinglePassFamily, plan: CutPlan, new_tokens: int) -> tuple[Part, ...]:
    del new_tokens
    head, chunk = family.action_parts, family.action_shape[0]
    return (
        _decoder_part(DECODER, family, plan, _layer_tokens(family, plan)),
        Part(ACTION_HEAD, chunk * sum(map(products, head)), sum(map(parameters, head))),
    )


def _autoregressive_parts(family: AutoregressiveModel, plan: CutPlan, new_tokens: int) -> tuple[Part, ...]:
    """An unrolled step: the cache of each further pass is as long as what came before."""
    del new_tokens
    tokens, passes = _layer_tokens(family, plan), family.action_dim
    seen = [[layer.keys + number for layer in tokens] for number in range(1, passes)]
    return _token_parts(family, plan, tokens, seen, passes)


def _prompt_parts(family: GeneratingModel, plan: CutPlan, new_tokens: int) -> tuple[Part, ...]:
    """A cache of fixed capacity, all of which every further token attends to."""
    tokens = _layer_tokens(family, plan)
    seen = [[layer.computed + new_tokens for layer in tokens]] * (new_tokens - 1)
    return _token_parts(family, plan, tokens, seen, new_tokens)


def _token_parts(
    family: GeneratingModel,
    plan: CutPlan,
    tokens: Sequence[LayerTokens],
    seen: Sequence[Sequence[int]],
    passes: int,
) -> tuple[Part, ...]:
    """Prompt, further passes that see so many keys in each layer, and the head."""
    config, head = family.decoder.config, family.lm_head
    prefill = _decoder_part(PREFILL, family, plan, tokens)
    configs = plan.layer_configs(config)
    macs = sum(
        decoder_layer_macs(own, LayerTokens(1, 1, keys))
        for layers in seen
        for own, keys in zip(configs, layers, strict=True)
    )
    read = _kv_values(config) * sum(map(sum, seen))
    further = (Part(DECODE, macs, prefill.weights, passes - 1, read),) if passes > 1 else ()
    return prefill, *further, Part(LM_HEAD, passes * products(head), parameters(head), passes)


def _flow_parts(family: FlowFamily, plan: CutPlan, new_tokens: int) -> tuple[Part, ...]:
    del new_tokens
    tokens, steps = _layer_tokens(family, plan), family.flow.steps
    projections = [tuple(layer.prefix_projections) for layer in family.expert_layers]
    projected = [sum(map(products, own)) for own in projections]
    prefix = _decoder_part(PREFIX, family, plan, tokens)
    once = sum(layer.keys * each for layer, each in zip(tokens, projected, strict=True))
    own, embedding = family.sizes.expert, family.action_embedding
    suffix, chunk = len(family.suffix_order), family.flow.chunk
    layers = sum(
        decoder_layer_macs(own, _expert_tokens(suffix, layer.keys, is_alone=bool(alone)))
        for layer, alone in zip(tokens, projections, strict=True)
    )
    step = layers + chunk * (embedding.macs + products(family.action_out_proj))
    weights = parameters(family.expert) - family.expert.time_parameters - sum(projected)
    weights += embedding.weights + parameters(family.action_out_proj)
    read = steps * sum(layer.keys for layer in tokens) * _kv_values(family.decoder.config)
    return (
        Part(PREFIX, prefix.macs + once, prefix.weights + sum(projected)),
        Part(DENOISE, steps * step, weights, steps, read),
    )


def _expert_tokens(suffix: int, prefix: int, *, is_alone: bool) -> LayerTokens:
    """Tokens of an expert layer; where it attends to the prefix alone it computes no keys."""
    return LayerTokens(suffix, 0, prefix) if is_alone else LayerTokens(suffix, suffix, prefix + suffix)


def _kv_values(config: DecoderConfig) -> int:
    """Numbers of one token's key and value in one layer."""
    return 2 * config.kv_heads * config.head_dim


_PARTS: Mapping[StepKind, Callable[[Any, CutPlan, int], tuple[Part, ...]]] = {
    StepKind.SINGLE_PASS: _single_pass_parts,
    StepKind.AUTOREGRESSIVE: _autoregressive_parts,
    StepKind.PROMPT: _prompt_parts,
    StepKind.FLOW: _flow_parts,
}
_TOKEN_BY_TOKEN = (StepKind.AUTOREGRESSIVE, StepKind.PROMPT)


def parameter_counts(family: PerceivingFamily) -> dict[str, int]:
    """Return the parameters of each part, those that are looked up or folded among them; a tied head counts once."""
    assert isinstance(family, nn.Module)  # noqa: S101 - every family is one
    decoder, whole = family.decoder, parameters(family) + family.folded_parameters
    counts = {
        VISION: vision_part(family, CutPlan()).weights,
        PROJECTOR: projector_part(family, CutPlan()).weights,
        "embedding": parameters(decoder.embed_tokens),
        DECODER: parameters(decoder) - parameters(decoder.embed_tokens),
    }
    if family.step_kind in _TOKEN_BY_TOKEN:
        counts[LM_HEAD] = parameters(family.get_submodule("lm_head"))
    counts[_REST[family.step_kind]] = whole - sum(counts.values())
    return {name: count for name, count in counts.items() if count}


_REST: Mapping[StepKind, str] = {
    StepKind.SINGLE_PASS: ACTION_HEAD,
    StepKind.AUTOREGRESSIVE: "line_break",
    StepKind.PROMPT: "line_break",
    StepKind.FLOW: "expert",
}
"""The part that has the parameters which no other part has, for each kind of step."""
