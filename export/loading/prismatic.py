"""What published checkpoints of OpenVLA and OpenVLA-OFT have in common: towers named by timm, and a Llama.

Source:
    ``configuration_prismatic.py``, ``modeling_prismatic.py`` and ``processing_prismatic.py`` of openvla/openvla c8f03f4
    and moojink/openvla-oft 213c5ff; towers as in timm 1.0.31, where the published code asks for 0.9.10 to 0.9.16.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.image_processor import pillow_resample
from saccade.export.loading.json_fields import JsonFields
from saccade.export.loading.key_rules import KeyRules, numbered
from saccade.export.loading.text_decoder import TEXT_MODELS, TextModel, read_text_model
from saccade.export.models.vision_backbone import TOWER_NAMES
from saccade.export.models.vision_transformer import VisionConfig
from saccade.proto.errors import CheckpointError
from saccade.proto.picture_fit import Resample

MODEL_TYPE = "openvla"
"""``model_type`` of both: what tells them apart is whether an action head lies beside the weights."""
CONFIG_NAME = "config.json"
PROCESSOR_NAME = "preprocessor_config.json"
OVERRIDES = "vision_towers"
"""An addition of ours: for each tower the dimensions that differ from what its timm name says."""

_DEFAULTS: Mapping[str, object] = {
    "llm_backbone_id": "vicuna-v15-7b",
    "image_resize_strategy": "letterbox",
    "pad_token_id": 32000,
    "pad_to_multiple_of": 64,
    "n_action_bins": 256,
}
"""Values that ``OpenVLAConfig`` assumes; for the first two the published checkpoints say something else."""
_LLAMA: Mapping[str, object] = {**TEXT_MODELS["llama"].defaults, "bos_token_id": 1, "eos_token_id": 2}
"""The bare ``LlamaConfig``: the published text configuration says vocabulary and padding, and leaves all else to it."""
_PLAIN_LLAMAS = ("llama2-7b-pure", "llama2-13b-pure")
"""Language models whose prompt is ``In: ... Out:``; others of the published code are prompted differently."""
_RESIZE = "resize-naive"
_RESIZES, _KINDS = "tvf_resize_params", "interpolations"
"""Where the processor's file says how it resizes for each tower: as torchvision takes it, and in words."""
_DIMENSIONS = ("patch_size", "width", "depth", "heads", "mlp_dim", "register_tokens")

_SIGLIP = VisionConfig(
    image_size=224,
    patch_size=14,
    width=1152,
    depth=27,
    heads=16,
    mlp_dim=4304,
    activation="gelu",
    final_norm=False,
    read_block=-2,
)
TIMM_TOWERS: Mapping[str, VisionConfig] = {
    "vit_large_patch14_reg4_dinov2": VisionConfig(
        image_size=518,
        patch_size=14,
        width=1024,
        depth=24,
        heads=16,
        mlp_dim=4096,
        activation="gelu",
        class_token=True,
        register_tokens=4,
        layer_scale=True,
        final_norm=False,
        read_block=-2,
    ),
    "vit_so400m_patch14_siglip_224": _SIGLIP,
    "vit_so400m_patch14_siglip_384": replace(_SIGLIP, image_size=384),
}
"""timm's name, without the tag of its weights, to the tower. The block before the last is read, without a norm."""


PROMPT = "In: What action should the robot take to {instruction}?\nOut: "
"""The published prompt of both; the space at its end becomes the lone space."""
SPACE_ID = 29871
"""Llama's lone space, which stood between prompt and actions in training."""


class _Scale(NamedTuple):
    """Mean and deviation of each channel, for pixels in 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Prismatic:
    """What ``config.json`` and ``preprocessor_config.json`` say of OpenVLA or OpenVLA-OFT.

    Args:
        towers: One vision tower, or two that give the same number of tokens.
        text: The language model's configuration.
        bos_id: Token id that begins a sequence.
        eos_id: Token id that ends a sequence.
        pad_id: Token id that fills a text on its right.
        action_end: One more than the highest action token; rows that only pad the embedding table lie from here on.
        action_edges: Number of action tokens; each is an edge of the bins over [-1, 1].
    """

    towers: tuple[VisionConfig, ...]
    text: TextModel
    bos_id: int
    eos_id: int
    pad_id: int
    action_end: int
    action_edges: int


def read_prismatic(folder: CheckpointFolder, *, causal: bool) -> Prismatic:
    """Read the configuration of a published checkpoint.

    Args:
        folder: The checkpoint that is read.
        causal: A token sees itself and those before it (OpenVLA); False: every token (OpenVLA-OFT).

    Raises:
        CheckpointError: A file or field is missing or wrong, or asks for what is not known here.
    """
    config = folder.config
    fields = JsonFields(config, CONFIG_NAME, _DEFAULTS)
    fields.expect("model_type", (MODEL_TYPE,))
    _take_one_of(
        fields, "llm_backbone_id", _PLAIN_LLAMAS, "others are prompted otherwise: take a model on Llama 2"
    )
    _take_one_of(fields, "image_resize_strategy", (_RESIZE,), "nothing here resizes otherwise")
    towers = _towers(folder, config, fields)
    _check_fusion(fields, len(towers))
    llama = fields.child("text_config", _LLAMA)
    llama.expect("model_type", ("llama",))
    text = read_text_model(llama, "llama", causal=causal)
    model = Prismatic(
        towers,
        text,
        bos_id=llama.take("bos_token_id", int),
        eos_id=llama.take("eos_token_id", int),
        pad_id=fields.take("pad_token_id", int),
        action_end=text.decoder.vocab_size - fields.take("pad_to_multiple_of", int),
        action_edges=fields.take("n_action_bins", int),
    )
    if not 2 <= model.action_edges <= model.action_end:
        raise CheckpointError(
            f"{CONFIG_NAME}: n_action_bins: expected 2 to {model.action_end}, the tokens before the padding, found "
            f"{model.action_edges}."
        )
    for name in ("bos_id", "eos_id", "pad_id"):
        if not 0 <= getattr(model, name) < text.decoder.vocab_size:
            raise CheckpointError(
                f"{CONFIG_NAME}: {name}: expected a row of the embedding table, 0 to {text.decoder.vocab_size - 1}, "
                f"found {getattr(model, name)}."
            )
    return model


def key_rules(towers: Sequence[VisionConfig], rules: KeyRules) -> KeyRules:
    """Return the rules of both families: ``rules`` for what follows the towers, and what nobody needs of the towers."""
    unused: tuple[str, ...] = (
        r"^vision_backbone\.\w+\.attn_pool\.",
    )  # SigLIP's pooling; patches are read before it
    for name, tower in zip(TOWER_NAMES, towers, strict=False):
        path = f"vision_backbone.{name}"
        unused += numbered(f"{path}.blocks", tower.blocks, tower.depth)
        if not tower.final_norm:
            unused += (rf"^{re.escape(path)}\.norm\.",)
    scale = (r"(\.ls[12])\.gamma$", r"\1.scale_factor")  # timm's name, and the published one
    return replace(rules, rename=(scale, *rules.rename), unused=(*unused, *rules.unused))


def resample(folder: CheckpointFolder) -> Resample:
    """Return how the published processor resizes pictures to the towers' size.

    Raises:
        CheckpointError: The processor's file is missing, or resizes in a way that is not known here.
    """
    fields = folder.fields(PROCESSOR_NAME)
    if not fields.has(_RESIZES):
        kinds = fields.items(_KINDS, str) if fields.has(_KINDS) else (Resample.BICUBIC.value,)
    else:
        entries = fields.objects(_RESIZES)
        for entry in entries:
            entry.expect("antialias", (True,))
        kinds = tuple(pillow_resample(entry, "interpolation").value for entry in entries)
    known = [kind.value for kind in Resample]
    if len(set(kinds)) != 1 or kinds[0] not in known:
        raise CheckpointError(
            f"{PROCESSOR_NAME}: {_RESIZES}: expected one way to resize for all towers, of {', '.join(known)}, found "
            f"{', '.join(kinds) or 'none'}."
        )
    return Resample(kinds[0])


def check_template(tokenizer: Tokenizer, template: str) -> None:
    """Refuse a prompt that does not end in the lone space: the first action token would be wrong.

    The published code appends it where the tokens do not end in it, see ``predict_action``.

    Args:
        tokenizer: The checkpoint's tokenizer.
        template: Prompt with ``{instruction}`` once.

    Raises:
        CheckpointError: The prompt's last token is another.
    """
    ids = tokenizer.encode(template.replace("{instruction}", "a"), add_special_tokens=False).ids
    if ids[-1:] != [SPACE_ID]:
        raise CheckpointError(
            f"embodiment.json: template: expected a prompt whose last token is the lone space, id {SPACE_ID}, found "
            f"{ids[-1:]}; end it in 'Out: ', the space included, and use the model's own tokenizer."
        )


def _take_one_of(fields: JsonFields, name: str, accepted: Sequence[str], advice: str) -> None:
    """Refuse what is not known here, a default that a missing field stands for included."""
    value = fields.take(name, str)
    if value not in accepted:
        raise CheckpointError(
            f"{CONFIG_NAME}: {name}: expected {' or '.join(accepted)}, found {value!r}; {advice}."
        )


def _check_fusion(fields: JsonFields, towers: int) -> None:
    """Two towers are fused and have the deeper projector; the three fields that say so agree."""
    fields.expect("use_fused_vision_backbone", (towers == 2,))
    projector = "fused-gelu-mlp" if towers == 2 else "gelu-mlp"
    if fields.has("arch_specifier"):
        arch = fields.take("arch_specifier", str)
        if arch.rpartition("+")[2] != projector:  # what stands before the plus says how it was trained
            raise CheckpointError(
                f"{CONFIG_NAME}: arch_specifier: expected ...+{projector} for {towers} vision towers, found {arch!r}."
            )


def _towers(
    folder: CheckpointFolder, config: Mapping[str, Any], fields: JsonFields
) -> tuple[VisionConfig, ...]:
    """Return the towers: what timm builds for their names, with the sizes and the pixel scales of this checkpoint."""
    names, sizes = fields.items("timm_model_ids", str), fields.items("image_sizes", int)
    scales = _pixel_scales(folder, sizes)
    if not 1 <= len(names) <= 2 or not len(names) == len(sizes) == len(scales):
        raise CheckpointError(
            f"{CONFIG_NAME}: expected one or two of each of timm_model_ids, image_sizes and, in {PROCESSOR_NAME}, "
            f"pixel scales, found {len(names)}, {len(sizes)} and {len(scales)}."
        )
    if any(act is not None for act in config.get("timm_override_act_layers") or ()):
        raise CheckpointError(
            f"{CONFIG_NAME}: timm_override_act_layers: expected none, found {config['timm_override_act_layers']}."
        )
    overrides = config.get(OVERRIDES) or [{}] * len(names)
    if not isinstance(overrides, list) or len(overrides) != len(names):
        raise CheckpointError(
            f"{CONFIG_NAME}: {OVERRIDES}: expected one object for each tower, found {overrides!r:.80}."
        )
    towers = tuple(map(_tower, names, sizes, scales, overrides))
    if len({tower.tokens for tower in towers}) != 1:
        raise CheckpointError(
            f"{CONFIG_NAME}: expected vision towers of one token count, found {[tower.tokens for tower in towers]}."
        )
    return towers


def _tower(name: str, size: int, scale: _Scale, override: object) -> VisionConfig:
    plain = name.partition(".")[0]
    if plain not in TIMM_TOWERS:
        raise CheckpointError(
            f"{CONFIG_NAME}: timm_model_ids: expected of {', '.join(TIMM_TOWERS)}, found {name!r}; no other tower is "
            "known here."
        )
    where = f"{CONFIG_NAME}: {OVERRIDES}"
    changes = JsonFields(override, where)
    unknown = sorted(set(override) - set(_DIMENSIONS)) if isinstance(override, Mapping) else []
    if unknown:
        raise CheckpointError(f"{where}: expected only {', '.join(_DIMENSIONS)}, found {', '.join(unknown)}.")
    tower = replace(TIMM_TOWERS[plain], image_size=size, pixel_mean=scale.mean, pixel_std=scale.std)
    dimensions: dict[str, Any] = {key: changes.take(key, int) for key in _DIMENSIONS if changes.has(key)}
    tower = replace(tower, **dimensions)
    if tower.side < 1 or tower.width % tower.heads or tower.depth < 2:
        raise CheckpointError(
            f"{CONFIG_NAME}: {name}: expected an image of at least one patch, heads that divide the width and at least "
            f"2 blocks, found image {size}, patch {tower.patch_size}, width {tower.width}, heads {tower.heads}, blocks "
            f"{tower.depth}."
        )
    return tower


def _pixel_scales(folder: CheckpointFolder, sizes: Sequence[int]) -> list[_Scale]:
    """Return mean and deviation for each tower, as they are applied.

    The published processor normalises with ``tvf_normalize_params`` if its file has them: ``means`` and ``stds`` after
    they went through bfloat16 when the checkpoint was converted.
    """
    fields = folder.fields(PROCESSOR_NAME)
    fields.expect("image_resize_strategy", (_RESIZE,))
    fields.expect("tvf_do_letterbox", (False,))
    fields.expect("input_sizes", ([[3, size, size] for size in sizes],))
    if fields.has("tvf_normalize_params"):
        entries = fields.objects("tvf_normalize_params")
        return [_scale(entry.items("mean", float), entry.items("std", float)) for entry in entries]
    means, stds = fields.rows("means", float), fields.rows("stds", float)
    if len(means) != len(stds):
        raise CheckpointError(
            f"{PROCESSOR_NAME}: expected as many means as stds, found {len(means)} and {len(stds)}."
        )
    return list(map(_scale, means, stds))


def _scale(mean: tuple[float, ...], std: tuple[float, ...]) -> _Scale:
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise CheckpointError(
            f"{PROCESSOR_NAME}: expected mean and positive deviation of three channels, found {mean} and {std}."
        )
    return _Scale((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
