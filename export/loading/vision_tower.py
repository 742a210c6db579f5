"""Towers as transformers stores them (CLIP, SigLIP): their configuration, and their weights under our names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from saccade.export.loading.json_fields import JsonFields
from saccade.export.loading.key_rules import Renames, numbered
from saccade.export.models.vision_transformer import VisionConfig
from saccade.proto.errors import CheckpointError

CLIP, SIGLIP, SMOLVLM = "clip_vision_model", "siglip_vision_model", "smolvlm_vision"
TOWER_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    CLIP: {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 32,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
    SIGLIP: {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 16,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    },
    SMOLVLM: {
        "hidden_size": 1152,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 32,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    },
}
"""What the configuration class of each ``model_type`` assumes where a field is missing."""
_SWITCHES = {
    CLIP: VisionConfig(
        image_size=1,
        patch_size=1,
        width=1,
        depth=1,
        heads=1,
        mlp_dim=1,
        class_token=True,
        position_on_prefix=True,
        patch_bias=False,
        pre_norm=True,
    ),
    SIGLIP: VisionConfig(image_size=1, patch_size=1, width=1, depth=1, heads=1, mlp_dim=1),
    SMOLVLM: VisionConfig(image_size=1, patch_size=1, width=1, depth=1, heads=1, mlp_dim=1),
}
"""Switches that no file says because the architecture fixes them."""
_ACTIVATIONS = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh"}


def tower_fields(parent: JsonFields, name: str, fallback: Mapping[str, object]) -> JsonFields:
    """Return the object ``name``; its missing fields are those of its ``model_type``.

    Args:
        parent: Configuration that holds the object.
        name: Key of the object, e.g. ``vision_config``.
        fallback: What the parent's class assumes where the object is missing as a whole.
    """
    if not parent.has(name):
        return JsonFields(fallback, name, TOWER_DEFAULTS[str(fallback["model_type"])])
    kind = parent.child(name).take("model_type", str)
    if kind not in TOWER_DEFAULTS:
        raise CheckpointError(
            f"{name}: model_type: expected one of {', '.join(TOWER_DEFAULTS)}, found {kind!r}."
        )
    return parent.child(name, TOWER_DEFAULTS[kind])


def read_tower(
    fields: JsonFields,
    *,
    read_block: int,
    final_norm: bool,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> VisionConfig:
    """Read a tower's configuration.

    Args:
        fields: The tower's configuration, from :func:`tower_fields`.
        read_block: Index of the block whose output the family takes; negative counts from the end.
        final_norm: The family takes that output after the final norm.
        mean: Mean that the image processor subtracts from each of three channels, for pixels in 0..1.
        std: Standard deviation that the image processor divides each of three channels by, for pixels in 0..1.

    Raises:
        CheckpointError: A field is of the wrong kind, or asks for what is not known here.
    """
    activation = fields.take("hidden_act", str)
    if activation not in _ACTIVATIONS:
        raise CheckpointError(f"hidden_act: expected one of {', '.join(_ACTIVATIONS)}, found {activation!r}.")
    fields.expect("num_channels", (3,))
    if len(mean) != 3 or len(std) != 3:
        raise CheckpointError(f"expected image mean and std of three channels, found {mean} and {std}.")
    return replace(
        _SWITCHES[fields.take("model_type", str)],
        image_size=fields.take("image_size", int),
        patch_size=fields.take("patch_size", int),
        width=fields.take("hidden_size", int),
        depth=fields.take("num_hidden_layers", int),
        heads=fields.take("num_attention_heads", int),
        mlp_dim=fields.take("intermediate_size", int),
        norm_eps=fields.take("layer_norm_eps", float),
        activation=_ACTIVATIONS[activation],
        read_block=read_block,
        final_norm=final_norm,
        pixel_mean=(mean[0], mean[1], mean[2]),
        pixel_std=(std[0], std[1], std[2]),
    )


def tower_renames(stored: str, ours: str) -> Renames:
    """Return what brings the weights under ``stored`` (a regular expression) to our tower ``ours``."""
    prefix = rf"^{stored}(?:vision_model\.)?"
    inside = rf"^{ours}\."
    return (
        (prefix, f"{ours}."),
        (rf"{inside}embeddings\.class_embedding$", f"{ours}.cls_token"),
        (rf"{inside}embeddings\.patch_embedding\.", f"{ours}.patch_embed.proj."),
        (rf"{inside}embeddings\.position_embedding\.weight$", f"{ours}.pos_embed"),
        (rf"{inside}pre_layrnorm\.", f"{ours}.norm_pre."),
        (rf"{inside}post_layernorm\.", f"{ours}.norm."),
        (rf"{inside}encoder\.layers\.(\d+)\.layer_norm([12])\.", rf"{ours}.blocks.\1.norm\2."),
        (rf"{inside}encoder\.layers\.(\d+)\.self_attn\.q_proj\.(.*)$", rf"{ours}.blocks.\1.attn.qkv.\2#0"),
        (rf"{inside}encoder\.layers\.(\d+)\.self_attn\.k_proj\.(.*)$", rf"{ours}.blocks.\1.attn.qkv.\2#1"),
        (rf"{inside}encoder\.layers\.(\d+)\.self_attn\.v_proj\.(.*)$", rf"{ours}.blocks.\1.attn.qkv.\2#2"),
        (rf"{inside}encoder\.layers\.(\d+)\.self_attn\.out_proj\.", rf"{ours}.blocks.\1.attn.proj."),
        (rf"{inside}encoder\.layers\.(\d+)\.mlp\.", rf"{ours}.blocks.\1.mlp."),
    )


def tower_unused(config: VisionConfig, ours: str) -> tuple[str, ...]:
    """Return the rules for what of a published tower nobody needs: later blocks, a final norm, a pooling head."""
    norm = () if config.final_norm else (rf"^{ours}\.norm\.",)
    return (*numbered(f"{ours}.blocks", config.blocks, config.depth), *norm, rf"^{ours}\.head\.")
