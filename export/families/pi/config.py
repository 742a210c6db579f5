"""Checkpoints of π0 and π0.5: configuration as transformers, lerobot and openpi write it, and one table of names."""

from __future__ import annotations

from dataclasses import dataclass, replace

from saccade.export.families.deployment import Deployment
from saccade.export.families.flow import FlowConfig
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.image_processor import NAMES, read_image_processor
from saccade.export.loading.json_fields import JsonFields
from saccade.export.loading.key_rules import KeyRules
from saccade.export.loading.lerobot_flags import refuse_aloha_flags
from saccade.export.loading.text_decoder import read_text_model, text_fields
from saccade.export.loading.vision_tower import SIGLIP, read_tower, tower_fields, tower_renames, tower_unused
from saccade.export.models.decoder import DecoderConfig
from saccade.export.models.vision_transformer import VisionConfig
from saccade.policies.base import Grid
from saccade.proto.errors import CheckpointError

_DEFAULTS = {
    "paligemma_variant": "gemma_2b",
    "action_expert_variant": "gemma_300m",
    "chunk_size": 50,
    "max_state_dim": 32,
    "max_action_dim": 32,
    "num_inference_steps": 10,
    "min_period": 4e-3,
    "max_period": 4.0,
    "image_resolution": (224, 224),
}
"""Defaults of lerobot's ``PI0Config`` and ``PI05Config``; transformers' ``PI0Config`` agrees where it has the field."""
_OPENPI = {"action_horizon": "chunk_size", "action_dim": "max_action_dim"}
"""Names of fields in openpi's converted checkpoints, to lerobot's."""
_EARLY = {"num_steps": "num_inference_steps", "resize_imgs_with_padding": "image_resolution"}
"""Names of fields in lerobot's checkpoints before September 2025, to today's."""
GEMMA_VARIANTS = {
    "gemma_300m": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 18,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "vocab_size": 257152,
    },
    "gemma_2b": {
        "hidden_size": 2048,
        "intermediate_size": 16384,
        "num_hidden_layers": 18,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "vocab_size": 257152,
    },
}
"""What lerobot and openpi mean by a variant, in transformers' words."""
TOWER = {
    "model_type": SIGLIP,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "patch_size": 14,
}
"""SigLIP-so400m, which lerobot and openpi fix in code."""
_MOST = 255
_HALF = (0.5, 0.5, 0.5)
"""Mean, and std, where no image processor is stored: pixels go to -1..1."""


@dataclass(frozen=True)
class PiConfig:
    """Everything that shapes weights and graph of a π0 or π0.5 model.

    Args:
        tower: SigLIP, read after its final norm.
        prefix: Gemma, bidirectional, without its final norm.
        expert: The smaller Gemma, of the same heads.
        flow: How actions come out of noise; its ``action_dim`` is the model's width.
        state_width: Numbers of proprioception, zeros after the robot's included; π0.5 takes it as text.
        state_dim: Numbers of proprioception that the robot has.
        action_dim: Numbers of an action that the robot has.
        camera: Height and width of the pictures as they come, pixels.
        views: Cameras, absent ones included.
        max_text_tokens: Length of the padded prompt, BOS included.
        is_antialiased: Pictures of another size are resized with antialiasing, as openpi does; lerobot does not.
    """

    tower: VisionConfig
    prefix: DecoderConfig
    expert: DecoderConfig
    flow: FlowConfig
    state_width: int
    state_dim: int
    action_dim: int
    camera: tuple[int, int]
    views: int
    max_text_tokens: int
    is_antialiased: bool = False

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "kv_heads", "head_dim", "rope_theta"):
            ours, theirs = getattr(self.prefix, name), getattr(self.expert, name)
            if ours != theirs:
                raise CheckpointError(
                    f"config.json: expected one attention for prefix and expert, found {name} {ours} and {theirs}; "
                    "correct the one that the weights do not have."
                )
        for name, used, least, width in (
            ("state", self.state_dim, 0, self.state_width),
            ("action", self.action_dim, 1, self.flow.action_dim),
        ):
            if not least <= used <= width:
                raise CheckpointError(
                    f"config.json: {name}: expected {least} to {width} numbers, found {used}."
                )
        if self.expert.width % 2:
            raise CheckpointError(
                f"config.json: expected an even expert width, half sines and half cosines of time, found "
                f"{self.expert.width}."
            )

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the views."""
        return Grid(self.views, self.tower.side, self.tower.side)

    @property
    def segments(self) -> dict[str, int]:
        """The prefix: name to tokens, in order."""
        return {"visual": self.grid.tokens, "text": self.max_text_tokens}


def read_pi_config(folder: CheckpointFolder, deployment: Deployment, family: str) -> PiConfig:
    """Read the configuration of a checkpoint.

    Three kinds are known: transformers' (``model_type``, with every size), lerobot's (``type``, with names of variants)
    and that of openpi's conversion (``action_horizon``, with names of variants).

    Args:
        folder: The checkpoint that is read.
        deployment: How the model will be used; nothing stands before or between pictures here.
        family: Name of the family, ``pi0`` or ``pi05``.

    Raises:
        CheckpointError: A file or field is missing or wrong, or asks for what is not known here.
    """
    fields = _read_fields(folder, family)
    if deployment.before or deployment.between:
        raise CheckpointError(
            f"{family}: expected no tokens before or between pictures, found {deployment.before} and "
            f"{deployment.between}; the prompt, BOS first, follows the pictures."
        )
    vlm = fields.child("vlm_config", {})
    vlm.expect("model_type", ("paligemma",))
    tower = tower_fields(vlm, "vision_config", {**TOWER, "image_size": _image_size(fields)})
    mean, std = _pixel_scale(folder, tower.take("image_size", int))
    vision = read_tower(tower, read_block=-1, final_norm=True, mean=mean, std=std)
    width = fields.take("max_action_dim", int)
    expert = _gemma(fields, "dit_config", fields.take("action_expert_variant", str))
    fields.expect("proj_width", (expert.width,))  # of lerobot's early checkpoints
    return PiConfig(
        tower=vision,
        prefix=replace(_gemma(vlm, "text_config", fields.take("paligemma_variant", str)), final_norm=False),
        expert=expert,
        flow=FlowConfig(
            chunk=fields.take("chunk_size", int),
            action_dim=width,
            steps=fields.take("num_inference_steps", int),
            min_period=fields.take("min_period", float),
            max_period=fields.take("max_period", float),
        ),
        state_width=(state_width := fields.take("max_state_dim", int)),
        state_dim=state_width if deployment.state_dim is None else deployment.state_dim,
        action_dim=width if deployment.action_dim is None else deployment.action_dim,
        camera=deployment.image_size or (vision.image_size,) * 2,
        views=deployment.views,
        max_text_tokens=deployment.max_text_tokens,
        is_antialiased=is_openpi(folder),
    )


def is_openpi(folder: CheckpointFolder) -> bool:
    """Whether openpi's conversion wrote a checkpoint: it states no family, and has a field of its own."""
    return "action_horizon" in folder.config


def pi_key_rules(config: PiConfig) -> KeyRules:
    """Return how stored weights come to our names: lerobot's and openpi's, and what transformers makes of them."""
    ours = "paligemma_with_expert|state_proj|action_in_proj|action_out_proj|action_time_mlp_|time_mlp_"
    return KeyRules(
        rename=(
            (rf"^(?:model\.)+(?={ours})", ""),
            (r"^paligemma_with_expert\.gemma_expert\.(?:model\.)?", "expert."),
            (r"^paligemma_with_expert\.paligemma\.(?:model\.)?", "paligemma."),
            (r"^paligemma\.(?:language_model\.)?lm_head\.", "lm_head."),
            *tower_renames(r"paligemma\.vision_tower\.", "vision"),
            (r"^paligemma\.multi_modal_projector\.linear\.", "projector."),
            (r"^paligemma\.language_model\.(?:model\.)?", "decoder."),
        ),
        unused=(
            *tower_unused(config.tower, "vision"),
            r"^decoder\.norm\.",
            r"^expert\.(lm_head|embed_tokens)\.",
            # Before processors had files of their own: see saccade.export.loading.lerobot_statistics.
            r"^(normalize_inputs|normalize_targets|unnormalize_outputs)\.",
        ),
        one_plus=(r"^(?:decoder|expert)\.(?:.*_layer)?norm\.weight$",),
        ties={"decoder.embed_tokens.weight": "lm_head.weight"},
    )


def _read_fields(folder: CheckpointFolder, family: str) -> JsonFields:
    stored = folder.config
    if "model_type" not in stored and "type" not in stored and "action_horizon" not in stored:
        raise CheckpointError(
            f"config.json: expected 'type' or 'model_type' {family!r}, or openpi's 'action_horizon', found none; copy "
            "it from the published checkpoint."
        )
    if "action_dim" in stored:
        stored.setdefault("max_state_dim", stored["action_dim"])
    old = {**_OPENPI, **{name: new for name, new in _EARLY.items() if new not in stored}}
    fields = JsonFields({old.get(name, name): stored[name] for name in stored}, "config.json", _DEFAULTS)
    refuse_aloha_flags(fields)
    for name in ("model_type", "type"):
        fields.expect(name, (family,))
    fields.expect("n_obs_steps", (1,))
    return fields


def _image_size(fields: JsonFields) -> int:
    size = fields.items("image_resolution", int)
    if len(size) != 2 or size[0] != size[1]:
        raise CheckpointError(
            f"config.json: image_resolution: expected height and width alike, found {list(size)}."
        )
    return size[0]


def _gemma(parent: JsonFields, name: str, variant: str) -> DecoderConfig:
    """Return a Gemma whose sizes are in the object ``name``, or else those of a variant."""
    if parent.has(name):
        parent.child(name).expect("model_type", ("gemma",))
    elif variant not in GEMMA_VARIANTS:
        raise CheckpointError(
            f"config.json: expected a variant of {', '.join(GEMMA_VARIANTS)}, found {variant!r}; LoRA weights must be "
            "merged first, where the model was trained: openpi's conversion does not do it."
        )
    else:
        parent = JsonFields({name: GEMMA_VARIANTS[variant]}, "config.json")
    fields = text_fields(parent, name, "gemma")
    fields.expect("hidden_activation", ("gelu_pytorch_tanh",))
    return read_text_model(fields, "gemma", causal=False).decoder


def _pixel_scale(folder: CheckpointFolder, side: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of the pixels; a processor that makes something else than the tower's square is refused."""
    if not any(folder.has(name) for name in NAMES):
        return _HALF, _HALF
    processor = read_image_processor(folder)
    for name, accepted in (("rescale_factor", 1 / _MOST), ("do_center_crop", False), ("do_pad", False)):
        processor.fields.expect(name, (accepted,))
    if processor.fields.has("size"):
        size = processor.fields.child("size")
        for name in ("height", "width"):
            size.take(name, int)
            size.expect(name, (side,))
    return processor.mean, processor.std
