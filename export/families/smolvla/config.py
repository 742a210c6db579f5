"""Checkpoints of SmolVLA as lerobot writes them: configuration, and one table of names.

A policy's ``config.json`` only names the vision-language model it grew from. Sizes of the published one are known here;
any other must leave its own ``config.json`` beside the policy's, as ``backbone_config.json``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from saccade.export.families.deployment import Deployment
from saccade.export.families.flow import FlowConfig
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.json_fields import JsonFields
from saccade.export.loading.key_rules import KeyRules, numbered
from saccade.export.loading.lerobot_features import LerobotFeatures, read_features
from saccade.export.loading.lerobot_flags import refuse_aloha_flags
from saccade.export.loading.text_decoder import TextModel, read_text_model, text_fields
from saccade.export.loading.vision_tower import SMOLVLM, read_tower, tower_fields, tower_renames, tower_unused
from saccade.export.models.decoder import DecoderConfig
from saccade.export.models.vision_transformer import VisionConfig
from saccade.policies.base import Grid
from saccade.proto.errors import CheckpointError

MODEL_TYPE = "smolvla"
BACKBONE_NAME = "backbone_config.json"
DEFAULTS = {
    "chunk_size": 50,
    "max_state_dim": 32,
    "max_action_dim": 32,
    "resize_imgs_with_padding": (512, 512),
    "tokenizer_max_length": 48,
    "num_steps": 10,
    "vlm_model_name": "HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
    "num_expert_layers": -1,
    "num_vlm_layers": 16,
    "self_attn_every_n_layers": 2,
    "expert_width_multiplier": 0.75,
    "min_period": 4e-3,
    "max_period": 4.0,
}
"""Defaults of lerobot's ``SmolVLAConfig``."""
FIXED: dict[str, tuple[object, ...]] = {
    "n_obs_steps": (1,),
    "use_cache": (True,),
    "add_image_special_tokens": (False,),
    "attention_mode": ("cross_attn",),
}
"""Settings that change the model, and what is known here; each default is among it."""
_BACKBONE = {"scale_factor": 2, "tie_word_embeddings": False}
"""Defaults of transformers' ``SmolVLMConfig``."""
BACKBONES: dict[str, dict[str, Any]] = {
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": {
        "model_type": "smolvlm",
        "scale_factor": 4,
        "vision_config": {
            "model_type": SMOLVLM,
            "hidden_size": 768,
            "num_attention_heads": 12,
            "image_size": 512,
            "patch_size": 16,
        },
        "text_config": {
            "model_type": "llama",
            "hidden_size": 960,
            "intermediate_size": 2560,
            "num_hidden_layers": 32,
            "num_attention_heads": 15,
            "num_key_value_heads": 5,
            "head_dim": 64,
            "rms_norm_eps": 1e-5,
            "vocab_size": 49280,
        },
    },
}
"""Published backbones, in transformers' words."""
_ROPE_THETA = 1e4
"""Rotary base in lerobot's code, whatever the backbone says."""
_MLP_STEP = 256
"""The expert's MLP is as wide as the next multiple of this."""


@dataclass(frozen=True, kw_only=True)
class SmolVlaConfig:
    """Everything that shapes weights and graph of a SmolVLA model.

    Args:
        tower: SigLIP, read after its final norm.
        shuffle: Side of a visual token, patches.
        decoder: Decoder of the prefix: the first layers of the backbone's Llama, without its final norm.
        expert: Decoder of the suffix: as many layers, of the same heads.
        flow: How actions come out of noise; its ``action_dim`` is the model's width.
        joint_every: Every so many expert layers, from the first on, attend to themselves as well as to the prefix; the
            others to the prefix alone. 0 = all of them to the prefix alone.
        stored_layers: Layers that the stored backbone has.
        is_tied: The backbone's head shares the embedding table, so that a file holds one of them.
        views: Cameras, absent ones included.
        max_text_tokens: Length of the padded prompt.
        state_dim: Numbers of proprioception that the robot has.
        state_width: Numbers of proprioception that the model takes, zeros after ``state_dim``.
        action_dim: Numbers of an action that the robot has.
        camera: Height and width of the pictures as they come, pixels.
    """

    tower: VisionConfig
    shuffle: int
    decoder: DecoderConfig
    expert: DecoderConfig
    flow: FlowConfig
    joint_every: int
    stored_layers: int
    is_tied: bool
    views: int
    max_text_tokens: int
    state_dim: int
    state_width: int
    action_dim: int
    camera: tuple[int, int]

    def __post_init__(self) -> None:
        if self.tower.side % self.shuffle:
            raise CheckpointError(
                f"{BACKBONE_NAME}: scale_factor: expected a divisor of {self.tower.side} patches, found {self.shuffle}."
            )
        if self.expert.width % 2:
            raise CheckpointError(
                "config.json: expert_width_multiplier: expected an even width, half sines and half cosines of time, "
                f"found {self.expert.width}."
            )
        for name, used, width in (
            ("observation.state", self.state_dim, self.state_width),
            ("action", self.action_dim, self.flow.action_dim),
        ):
            if not 1 <= used <= width:
                raise CheckpointError(f"config.json: {name}: expected 1 to {width} numbers, found {used}.")

    def is_joint(self, layer: int) -> bool:
        """Whether expert layer ``layer`` attends to itself as well as to the prefix."""
        return self.joint_every > 0 and layer % self.joint_every == 0

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the views."""
        side = self.tower.side // self.shuffle
        return Grid(self.views, side, side)

    @property
    def segments(self) -> dict[str, int]:
        """The prefix: name to tokens, in order."""
        return {"visual": self.grid.tokens, "text": self.max_text_tokens, "state": 1}


def read_config(folder: CheckpointFolder, deployment: Deployment) -> SmolVlaConfig:
    """Read the configuration of a checkpoint.

    Args:
        folder: The checkpoint that is read.
        deployment: How the model will be used; nothing stands before or between pictures here, and the prompt has no
            more room than the checkpoint's tokenizer gives it.

    Raises:
        CheckpointError: A file or field is missing or wrong, or asks for what is not known here.
    """
    stored = folder.config
    fields = JsonFields(stored, "config.json", DEFAULTS)
    fields.take("type", str)
    fields.expect("type", (MODEL_TYPE,))
    refuse_aloha_flags(fields)
    for name, accepted in FIXED.items():
        fields.expect(name, accepted)
    backbone = _backbone(folder, fields)
    vision = tower_fields(backbone, "vision_config", {"model_type": SMOLVLM})
    text = _text(backbone)
    decoder = _prefix(fields, text.decoder)
    tower = read_tower(vision, read_block=-1, final_norm=True, mean=(0.5,) * 3, std=(0.5,) * 3)
    _check_pictures(fields, tower)
    features = read_features(folder)
    _check_deployment(deployment, features)
    return SmolVlaConfig(
        tower=tower,
        shuffle=backbone.take("scale_factor", int),
        decoder=decoder,
        expert=_expert(fields, decoder),
        flow=FlowConfig(
            chunk=fields.take("chunk_size", int),
            action_dim=fields.take("max_action_dim", int),
            steps=fields.take("num_steps", int),
            min_period=fields.take("min_period", float),
            max_period=fields.take("max_period", float),
        ),
        joint_every=max(fields.take("self_attn_every_n_layers", int), 0),
        stored_layers=text.decoder.layers,
        is_tied=backbone.take("tie_word_embeddings", bool),
        views=deployment.views,
        max_text_tokens=min(deployment.max_text_tokens, fields.take("tokenizer_max_length", int)),
        state_dim=features.state_dim,
        state_width=fields.take("max_state_dim", int),
        action_dim=features.action_dim,
        camera=deployment.image_size or (tower.image_size,) * 2,
    )


def key_rules(config: SmolVlaConfig) -> KeyRules:
    """Return how stored weights come to our names."""
    return KeyRules(
        rename=(
            (r"^model\.(?:_orig_mod\.)?", ""),
            (r"^vlm_with_expert\.vlm\.lm_head\.", "lm_head."),
            *tower_renames(r"vlm_with_expert\.vlm\.model\.vision_model\.", "vision"),
            (r"^vlm_with_expert\.vlm\.model\.connector\.modality_projection\.proj\.", "projector."),
            (r"^vlm_with_expert\.vlm\.model\.text_model\.", "decoder."),
            (r"^vlm_with_expert\.lm_expert\.", "expert."),
            (r"^(action_in_proj|action_time_mlp_in|action_time_mlp_out)\.", r"action_time.\1."),
        ),
        unused=(
            *tower_unused(config.tower, "vision"),
            *numbered("decoder.layers", config.decoder.layers, config.stored_layers),
            r"^decoder\.norm\.",
            r"^lm_head\.",
            # Before processors had files of their own: see saccade.export.loading.lerobot_statistics.
            r"^(normalize_inputs|normalize_targets|unnormalize_outputs)\.",
        ),
        ties={"decoder.embed_tokens.weight": "lm_head.weight"} if config.is_tied else {},
    )


def _backbone(folder: CheckpointFolder, fields: JsonFields) -> JsonFields:
    """Return the configuration of the vision-language model."""
    where, values = BACKBONE_NAME, None
    if folder.has(BACKBONE_NAME):
        values = folder.read(BACKBONE_NAME)
    else:
        where = fields.take("vlm_model_name", str)
        values = BACKBONES.get(where)
    if values is None:
        raise CheckpointError(
            f"config.json: vlm_model_name: expected {' or '.join(BACKBONES)}, or the backbone's own config.json beside "
            f"it as {BACKBONE_NAME}, found {where!r} and no such file; copy it from the backbone's checkpoint."
        )
    backbone = JsonFields(values, where, _BACKBONE)
    backbone.expect("model_type", ("smolvlm",))
    return backbone


def _text(backbone: JsonFields) -> TextModel:
    backbone.child("text_config").expect("model_type", ("llama",))
    fields = text_fields(backbone, "text_config", "llama")
    fields.expect("attention_bias", (False,))
    return read_text_model(fields, "llama")


def _prefix(fields: JsonFields, backbone: DecoderConfig) -> DecoderConfig:
    wanted = fields.take("num_vlm_layers", int)
    layers = min(wanted, backbone.layers) if wanted > 0 else backbone.layers
    return replace(backbone, layers=layers, rope_theta=_ROPE_THETA, final_norm=False)


def _expert(fields: JsonFields, decoder: DecoderConfig) -> DecoderConfig:
    """Return the expert that lerobot's code makes of the backbone."""
    layers = fields.take("num_expert_layers", int)
    if layers > 0 and layers != decoder.layers:
        raise CheckpointError(
            f"config.json: num_expert_layers: expected -1, one for each of {decoder.layers} layers of the prefix, "
            f"found {layers}; with fewer, lerobot's own projections do not fit."
        )
    width = int(decoder.width * fields.take("expert_width_multiplier", float))
    hidden = 4 * int(2 * width / 3)
    return replace(decoder, width=width, mlp_dim=-(-hidden // _MLP_STEP) * _MLP_STEP, final_norm=True)


def _check_pictures(fields: JsonFields, tower: VisionConfig) -> None:
    size = fields.items("resize_imgs_with_padding", int)
    if size != (tower.image_size,) * 2:
        raise CheckpointError(
            f"config.json: resize_imgs_with_padding: expected the tower's {[tower.image_size] * 2}, found {list(size)}."
        )


def _check_deployment(deployment: Deployment, features: LerobotFeatures) -> None:
    if deployment.before or deployment.between:
        raise CheckpointError(
            f"{MODEL_TYPE}: expected no tokens before or between pictures, found {deployment.before} and "
            f"{deployment.between}; the task follows the pictures."
        )
    cameras = features.cameras
    if not 1 <= deployment.views <= len(cameras):
        raise CheckpointError(
            f"config.json: input_features: expected at least {max(deployment.views, 1)} cameras, found {len(cameras)} "
            f"({', '.join(cameras) or 'none'}); say how many the robot has."
        )
