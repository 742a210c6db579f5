"""LLaVA-NeXT (1.6): CLIP over an overview and tiles, patches un-padded, a line break after each row of tiles.

    [BOS and what precedes, line breaks] [visual: overview, tiled picture row by row] [question, padded on its right]

The host cuts pictures into tiles (:func:`prepare_images`). Rows are broken in the tiled picture, never in its overview.

Source:
    LLaVA-NeXT (llava-vl.github.io/blog/2024-01-30-llava-next) as in transformers 5.23,
    ``LlavaNextForConditionalGeneration``. Fixed here: the number of pictures, their size, and the prompt frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from saccade.export.families.anyres import Pixels, TileLayout, cut_tiles, lay_out
from saccade.export.families.deployment import Deployment
from saccade.export.families.llava_tiled import (
    PINPOINTS,
    TiledConfig,
    TiledLlava,
    fit_frame,
    read_pinpoints,
    read_tower_and_text,
    take_patches,
    tiled_key_rules,
)
from saccade.export.families.prompt_frame import PromptFrame, frame_prompt, grid_items
from saccade.export.loading.image_processor import read_image_processor
from saccade.export.loading.json_fields import JsonFields, read_object
from saccade.export.loading.key_rules import KeyRules
from saccade.export.loading.vision_tower import CLIP
from saccade.proto.errors import ExportError

MODEL_TYPE = "llava_next"
_DEFAULTS = {
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "tie_word_embeddings": False,
    PINPOINTS: ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)),
}
_TOWER = {
    "model_type": CLIP,
    "intermediate_size": 4096,
    "hidden_size": 1024,
    "patch_size": 14,
    "image_size": 336,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
}
"""What transformers' ``LlavaNextConfig`` assumes where ``vision_config`` is missing."""


@dataclass(frozen=True, kw_only=True)
class LlavaNextConfig(TiledConfig):
    """Everything that shapes weights and graph.

    Args:
        tiling: Of every picture.
        views: Pictures of one question.
    """

    tiling: TileLayout
    views: int


def read_config(folder: Path, deployment: Deployment) -> LlavaNextConfig:
    """Read the configuration of a checkpoint.

    Args:
        folder: Of the checkpoint.
        deployment: How it will be used.

    Raises:
        CheckpointError: A file or field is missing or wrong, or asks for what is not known here.
        ExportError: The deployment asks for video, or for pictures too narrow to tile.
    """
    if deployment.frames:
        raise ExportError(
            f"expected frames = 0, found {deployment.frames}: LLaVA-NeXT takes still pictures; use LLaVA-OneVision."
        )
    fields = JsonFields(read_object(folder, "config.json"), "config.json", _DEFAULTS)
    fields.expect("model_type", (MODEL_TYPE,))
    processor = read_image_processor(folder)
    tower, text = read_tower_and_text(fields, processor, _TOWER, "llama")
    tiling = lay_out(
        deployment.image_size or (tower.image_size, tower.image_size),
        read_pinpoints(fields, processor, tower.image_size),
        tower.image_size,
        tower.side,
    )
    picture = (
        *grid_items(tower.side, tower.side, newline=False),
        *grid_items(*tiling.grid, newline=True),
    )
    prompt = frame_prompt(deployment.before, [picture] * deployment.views, deployment.between)
    return LlavaNextConfig(
        tower=tower,
        text=text,
        blocks=((tower.side, tower.side), tiling.grid) * deployment.views,
        frame=fit_frame(PromptFrame(prompt, deployment.max_text_tokens), text),
        tiling=tiling,
        views=deployment.views,
    )


def key_rules(config: LlavaNextConfig) -> KeyRules:
    """Return how stored weights come to our names."""
    return tiled_key_rules(config)


def prepare_images(config: LlavaNextConfig, pictures: Iterable[Pixels]) -> Pixels:
    """Cut the pictures of one observation into what the graph takes.

    Args:
        config: The model's.
        pictures: uint8 ``(height, width, 3)``, RGB, one for each view.

    Returns:
        uint8 ``(views * tiles, image_size, image_size, 3)``.

    Raises:
        ImageError: A picture has another size or dtype than the model was exported for.
    """
    return np.concatenate([cut_tiles(picture, config.tiling) for picture in pictures])


class LlavaNext(TiledLlava):
    """The model."""

    config: LlavaNextConfig

    def arrange(self, features: Tensor) -> Tensor:
        """``(batch, views * tiles * patches, vision_width)`` -> ``(batch, visual, vision_width)``."""
        tiling, width = self.config.tiling, features.shape[-1]
        views = features.reshape(-1, tiling.tiles * tiling.side**2, width)
        return take_patches(views, tiling.patches).reshape(features.shape[0], -1, width)


def build(config: LlavaNextConfig) -> LlavaNext:
    """Return the model without its weights, on the meta device."""
    with torch.device("meta"):
        return LlavaNext(config)
