"""What every part of a model multiplies and reads, by formula, for every family; conventions as in accounting.

Everything is counted that our graphs compute: padding, keys that a mask hides, of the last layer the rows that are
read. Folded, and so not counted: position tables, time embeddings, modulations, and the frame axis of a still picture's
patches (Qwen-VL). What a policy computes itself has no formula. Attention of a causal decoder counts whole, since its
mask is added in our graphs; a kernel that knows the mask needs half of that, which matters in long videos only.
"""

from __future__ import annotations

from typing import cast

from saccade.export.cost.cut_plan import CutPlan
from saccade.export.cost.formulas import (
    LayerTokens,
    decoder_layer_macs,
    decoder_layer_weights,
    parameters,
    products,
)
from saccade.export.cost.vision_parts import (
    Family,
    perceiving,
    projector_part,
    vision_part,
)
from saccade.export.families.flow import FlowModel
from saccade.export.families.generating import GeneratingModel
from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.export.families.pi.model import PiModel
from saccade.export.families.sequence import ACTION
from saccade.export.families.smolvla.model import SmolVla
from saccade.export.models.cross_expert import CrossLayer
from saccade.export.models.decoder import Decoder, DecoderConfig
from saccade.export.models.expert import ActionTimeMlp, AdaptiveNorm
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


def model_parts(model: Family, plan: CutPlan, new_tokens: int) -> tuple[Part, ...]:
    """Return what the parts of a model do.

    Args:
        model: Only its shapes are looked at.
        plan: Where visual tokens are dropped.
        new_tokens: Of an answer, in a family that generates: the prompt gives the first, each other takes a pass.
    """
    seeing = vision_part(model, plan), projector_part(model, plan)
    if isinstance(model, GeneratingModel):
        return *seeing, *_generating_parts(model, plan, new_tokens)
    if isinstance(model, OpenVlaOft):
        return *seeing, *_single_pass_parts(model, plan)
    return *seeing, *_flow_parts(model, plan)


def parameter_counts(model: Family) -> dict[str, int]:
    """Return the parameters of each part, those that are looked up or folded among them; a tied head counts once."""
    decoder, whole = perceiving(model).decoder, parameters(cast("OpenVlaOft", model))
    counts = {
        VISION: vision_part(model, CutPlan()).weights,
        PROJECTOR: projector_part(model, CutPlan()).weights,
        "embedding": parameters(decoder.embed_tokens),
        DECODER: parameters(decoder) - parameters(decoder.embed_tokens),
    }
    if isinstance(model, GeneratingModel):
        counts[LM_HEAD] = parameters(model.lm_head)
        counts["line_break"] = whole - sum(counts.values())
    elif isinstance(model, OpenVlaOft):
        counts[ACTION_HEAD] = whole - sum(counts.values())
    else:
        counts["expert"] = whole - sum(counts.values())
    return {name: count for name, count in counts.items() if count}


def expert_config(model: FlowModel) -> DecoderConfig:
    """Return the dimensions of the expert."""
    return cast("PiModel | SmolVla", model).config.expert


def _generating_parts(model: GeneratingModel, plan: CutPlan, new_tokens: int) -> tuple[Part, ...]:
    decoder, further = model.decoder, new_tokens - 1
    config, layout = decoder.config, model.layout
    prompt = plan.layer_tokens(layout, config.layers, layout.segments.get(ACTION, 1))
    capacities = [layer.computed + new_tokens for layer in prompt]
    macs = sum(
        decoder_layer_macs(own, LayerTokens(1, 1, keys))
        for own, keys in zip(plan.layer_configs(config), capacities, strict=True)
    )
    weights, head = _layer_weights(decoder), products(model.lm_head)
    read = further * sum(capacities) * _kv_values(config)
    decode = Part(DECODE, further * macs, weights, further, read)
    return (
        Part(PREFILL, _decoder_macs(config, plan, prompt), weights),
        *((decode,) if further else ()),
        Part(LM_HEAD, new_tokens * head, parameters(model.lm_head), new_tokens),
    )


def _single_pass_parts(model: OpenVlaOft, plan: CutPlan) -> tuple[Part, ...]:
    config, layout = model.decoder.config, model.layout
    tokens = plan.layer_tokens(layout, config.layers, layout.segments[ACTION])
    head = model.config.chunk * products(model.action_head)
    return (
        Part(DECODER, _decoder_macs(config, plan, tokens), _layer_weights(model.decoder)),
        Part(ACTION_HEAD, head, parameters(model.action_head)),
    )


def _flow_parts(model: FlowModel, plan: CutPlan) -> tuple[Part, ...]:
    config = model.decoder.config
    tokens = plan.layer_tokens(perceiving(model).layout, config.layers, last_rows=0)
    cross = [isinstance(layer, CrossLayer) for layer in model.expert.layers]
    projected = [
        products(layer.self_attn.k_proj) + products(layer.self_attn.v_proj)
        for layer in model.expert.layers
        if isinstance(layer, CrossLayer)
    ]
    kept = [at.keys for at, crosses in zip(tokens, cross, strict=True) if crosses]
    macs = _decoder_macs(config, plan, tokens) + sum(
        n * each for n, each in zip(kept, projected, strict=True)
    )
    weights = sum(map(decoder_layer_weights, plan.layer_configs(config), (at.rows for at in tokens)))
    prefix = Part(PREFIX, macs, weights + sum(projected))
    step = _step_macs(model, [at.keys for at in tokens], cross)
    steps = model.flow.steps
    read = steps * sum(at.keys for at in tokens) * _kv_values(config)
    return prefix, Part(DENOISE, steps * step, _step_weights(model) - sum(projected), steps, read)


def _step_macs(model: FlowModel, prefix: list[int], crosses: list[bool]) -> int:
    """MACs of one denoising step; expert layers that attend to the prefix alone compute no keys."""
    own, suffix, chunk = expert_config(model), len(model.suffix_order), model.flow.chunk
    tokens = (
        LayerTokens(suffix, 0, keys) if alone else LayerTokens(suffix, suffix, keys + suffix)
        for keys, alone in zip(prefix, crosses, strict=True)
    )
    layers = sum(decoder_layer_macs(own, at) for at in tokens)
    embed = own.width * model.flow.action_dim
    if isinstance(getattr(model, "action_time", None), ActionTimeMlp):
        embed += 2 * own.width**2
    return layers + chunk * (embed + products(model.action_out_proj))


def _step_weights(model: FlowModel) -> int:
    """Parameters that a denoising step reads once time is folded, and what projects keys and values of the prefix."""
    width = expert_config(model).width
    modulated = sum(parameters(part) for part in model.expert.modules() if isinstance(part, AdaptiveNorm))
    embed = width * model.flow.action_dim + width
    if isinstance(getattr(model, "action_time", None), ActionTimeMlp):
        embed += width**2 + width**2 + width  # the first without its bias, which is in the time's constants
    return parameters(model.expert) - modulated + embed + parameters(model.action_out_proj)


def _layer_weights(decoder: Decoder) -> int:
    return sum(map(parameters, decoder.layers)) + parameters(decoder.norm)


def _decoder_macs(config: DecoderConfig, plan: CutPlan, tokens: tuple[LayerTokens, ...]) -> int:
    return sum(map(decoder_layer_macs, plan.layer_configs(config), tokens))


def _kv_values(config: DecoderConfig) -> int:
    """Numbers of one token's key and value in one layer."""
    return 2 * config.kv_heads * config.head_dim
