"""Dimensions of an OpenVLA-OFT model, and its ``config.json``.

``vision_towers`` and ``oft`` are additions to OpenVLA's keys: the published checkpoints name their towers by
timm identifiers and keep chunk and dimensions in code, see :mod:`saccade.export.families.openvla_oft.published`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from saccade.export.models.decoder import DecoderConfig
from saccade.export.models.square_picture import SquarePicture
from saccade.export.models.vision_transformer import VisionConfig
from saccade.policies.base import Grid
from saccade.proto.errors import CheckpointError
from saccade.proto.picture_fit import Resample

CONFIG_NAME = "config.json"
FAMILY = "openvla_oft"

_LLAMA_KEYS = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "mlp_dim": "intermediate_size",
    "vocab_size": "vocab_size",
    "norm_eps": "rms_norm_eps",
    "rope_theta": "rope_theta",
    "activation": "hidden_act",
}
_TOKEN_KEYS = {"bos_id": "bos_token_id", "eos_id": "eos_token_id", "pad_id": "pad_token_id"}
_MUST_BE = {
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "rope_scaling": (None,),
}
"""Switches of Llama that change the model and that this family does not have: key to what is accepted."""
_RESIZE = "resize-naive"
_OFT_KEYS = ("views", "chunk", "action_dim", "proprio_dim", "max_text_tokens", "head_blocks")


@dataclass(frozen=True, kw_only=True)
class OftConfig:
    """Everything that shapes the weights and the graph of one OpenVLA-OFT model.

    Args:
        towers: One vision tower, or two of one token count whose channels are concatenated.
        decoder: The decoder; ``causal`` is False in this family.
        views: Cameras; every camera goes through every tower.
        chunk: Actions in a chunk.
        action_dim: Numbers in an action.
        proprio_dim: Numbers of proprioception.
        max_text_tokens: Length of the padded prompt, BOS not counted.
        head_blocks: Residual blocks of the action head.
        bos_id: Token id that begins the sequence.
        eos_id: Token id that ends the sequence.
        pad_id: Token id that fills the prompt on its right.
        camera: Height and width of the pictures as they come, pixels; None = the towers' square.
        crop: Share of a picture's area that is looked at, its middle.
    """

    towers: tuple[VisionConfig, ...]
    decoder: DecoderConfig
    views: int
    chunk: int
    action_dim: int
    proprio_dim: int
    max_text_tokens: int
    head_blocks: int = 2
    bos_id: int = 1
    eos_id: int = 2
    pad_id: int = 0
    camera: tuple[int, int] | None = None
    crop: float = 1.0

    def __post_init__(self) -> None:
        if not self.towers or len({tower.tokens for tower in self.towers}) != 1:
            raise CheckpointError(
                "expected one vision tower, or several of one token count, "
                f"found token counts {[tower.tokens for tower in self.towers]}."
            )
        if self.decoder.causal:
            raise CheckpointError("openvla_oft: expected a bidirectional decoder, found causal=True.")
        for name in ("bos_id", "eos_id", "pad_id"):
            if not 0 <= getattr(self, name) < self.decoder.vocab_size:
                raise CheckpointError(
                    f"{CONFIG_NAME}: {name}: expected a row of the embedding table, 0 to "
                    f"{self.decoder.vocab_size - 1}, found {getattr(self, name)}."
                )

    @property
    def image_size(self) -> int:
        """Side of the square images, pixels; one size for all towers."""
        return self.towers[0].image_size

    @property
    def picture(self) -> SquarePicture:
        """How a camera's picture becomes what the towers take: stretched as the published evaluation does, cropped."""
        side = self.image_size
        return SquarePicture(
            self.camera or (side, side), side, self.crop, Resample.LANCZOS, rounds_each_side=False
        )

    @property
    def vision_width(self) -> int:
        """Channels of a visual token before the projector."""
        return sum(tower.width for tower in self.towers)

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the views."""
        return Grid(self.views, self.towers[0].side, self.towers[0].side)

    @property
    def segments(self) -> dict[str, int]:
        """The sequence: name to tokens, in order."""
        return {
            "bos": 1,
            "visual": self.grid.tokens,
            "proprio": 1,
            "text": self.max_text_tokens,
            "action": self.chunk * self.action_dim,
            "eos": 1,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``config.json``."""
        text = {key: getattr(self.decoder, name) for name, key in _LLAMA_KEYS.items()}
        text |= {key: getattr(self, name) for name, key in _TOKEN_KEYS.items()}
        fused = len(self.towers) > 1
        return {
            "model_type": FAMILY,
            "arch_specifier": "no-align+fused-gelu-mlp" if fused else "no-align+gelu-mlp",
            "use_fused_vision_backbone": fused,
            "image_sizes": [tower.image_size for tower in self.towers],
            "image_resize_strategy": _RESIZE,
            "text_config": {"model_type": "llama", **text},
            "vision_towers": [asdict(tower) for tower in self.towers],
            "oft": {name: getattr(self, name) for name in _OFT_KEYS},
        }


def write_config(config: OftConfig, checkpoint: Path) -> Path:
    """Write ``config.json`` and return its path."""
    path = checkpoint / CONFIG_NAME
    path.write_text(json.dumps(config.to_json(), indent=2) + "\n", encoding="utf-8")
    return path


def config_from_json(value: Mapping[str, Any]) -> OftConfig:
    """Read the content of ``config.json``; a Llama field that is missing takes transformers' class default.

    Raises:
        CheckpointError: A key that has no default is missing, a value is of the wrong kind, or a setting would change
            the model and is not known here.
    """
    try:
        return _config_from_json(value)
    except (TypeError, AttributeError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"{CONFIG_NAME}: expected numbers and names that fit together, found: {error}."
        ) from error


def _config_from_json(value: Mapping[str, Any]) -> OftConfig:
    if value.get("model_type") != FAMILY:
        raise CheckpointError(
            f"{CONFIG_NAME}: expected model_type {FAMILY!r}, found {value.get('model_type')!r}; read it with the "
            "family that saccade.export.families.registry names."
        )
    for key in ("text_config", "vision_towers", "oft"):
        if key not in value:
            raise CheckpointError(f"{CONFIG_NAME}: expected the key {key!r}, found none; add it.")
    text, oft = value["text_config"], value["oft"]
    missing = [name for name in _OFT_KEYS if name not in oft]
    if missing:
        raise CheckpointError(f"{CONFIG_NAME}: expected in 'oft' the keys {missing}, found none; add them.")
    unknown = sorted(set(oft) - set(_OFT_KEYS))
    if unknown:
        raise CheckpointError(
            f"{CONFIG_NAME}: expected in 'oft' only {', '.join(_OFT_KEYS)}, found {unknown}."
        )
    resize = value.get("image_resize_strategy", _RESIZE)
    if resize != _RESIZE:
        raise CheckpointError(
            f"{CONFIG_NAME}: image_resize_strategy: expected {_RESIZE!r}, found {resize!r}."
        )
    tokens = {name: text[key] for name, key in _TOKEN_KEYS.items() if text.get(key) is not None}
    return OftConfig(
        towers=tuple(_tower_from_json(entry) for entry in value["vision_towers"]),
        decoder=_decoder_from_json(text),
        **{name: oft[name] for name in _OFT_KEYS},
        **tokens,
    )


def _decoder_from_json(text: Mapping[str, Any]) -> DecoderConfig:
    for key, accepted in _MUST_BE.items():
        if text.get(key) not in accepted:
            raise CheckpointError(f"{CONFIG_NAME}: text_config.{key}: expected none, found {text[key]!r}.")
    found = {name: text[key] for name, key in _LLAMA_KEYS.items() if text.get(key) is not None}
    rope = (
        text.get("rope_parameters") or {}
    )  # where transformers 5 keeps what used to be rope_theta and rope_scaling
    if rope.get("rope_type", "default") != "default":
        raise CheckpointError(
            f"{CONFIG_NAME}: text_config.rope_parameters.rope_type: expected 'default', found {rope['rope_type']!r}."
        )
    if "rope_theta" in rope:
        found["rope_theta"] = rope["rope_theta"]
    defaults = DecoderConfig(**found)
    found.setdefault("head_dim", defaults.width // defaults.heads)
    found.setdefault("kv_heads", defaults.heads)
    return DecoderConfig(**found, causal=False)


def _tower_from_json(entry: Mapping[str, Any]) -> VisionConfig:
    known = {field.name for field in fields(VisionConfig)}
    unknown = sorted(set(entry) - known)
    if unknown:
        raise CheckpointError(
            f"{CONFIG_NAME}: vision_towers: expected only {', '.join(sorted(known))}, found {unknown}."
        )
    try:
        switches: dict[str, Any] = {
            key: tuple(item) if isinstance(item, list) else item for key, item in entry.items()
        }
        return VisionConfig(**switches)
    except TypeError as error:
        raise CheckpointError(f"{CONFIG_NAME}: vision_towers: {error}.") from error
