"""LLaVA-OneVision, and LLaVA-Video converted to its layout: SigLIP over tiles, pictures or frames, and Qwen2.

    [BOS and what precedes, line breaks] [visual] [question, padded on its right]

What becomes visual tokens depends on the deployment, as it does in the reference's processor:

    one picture        an overview, then the tiled picture un-padded, thinned bilinearly if it has too many tokens; a
                       line break after each of its rows
    several pictures   each padded to a square, in one tile; a line break after each
    frames             each in one tile, bilinearly to half the side; one line break after the video (LLaVA-OneVision),
                       or after each row of each frame (LLaVA-Video: ``mm_newline_position`` is ``grid``)

Source:
    LLaVA-OneVision (2408.03326) as in transformers' ``LlavaOnevisionForConditionalGeneration``, 5.23. LLaVA-Video
    (2410.02713): ``add_token_per_grid`` in ``llava_arch.py`` of LLaVA-VL/LLaVA-NeXT; its keys and configuration must
    have been converted. Fixed here: the number of pictures, their size, and the prompt frame.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from saccade.export.families.anyres import Pixels, Size, TileLayout, cut_tiles, lay_out, pad_to_square, squash
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
from saccade.export.families.prompt_frame import NEWLINE, Item, PromptFrame, frame_prompt, grid_items
from saccade.export.loading.image_processor import NAMES, ImageProcessor, read_image_processor
from saccade.export.loading.json_fields import JsonFields, read_object
from saccade.export.loading.key_rules import KeyRules
from saccade.export.loading.vision_tower import SIGLIP
from saccade.export.models.bilinear import resample
from saccade.export.models.vision_transformer import VisionConfig
from saccade.proto.errors import CheckpointError

MODEL_TYPE = "llava_onevision"
_STEPS = range(384, 2305, 384)
_DEFAULTS = {
    "vision_feature_layer": -1,
    "vision_feature_select_strategy": "full",
    "vision_aspect_ratio": "anyres_max_9",
    "tie_word_embeddings": False,
    "mm_newline_position": "one_token",
    PINPOINTS: tuple((height, width) for height in _STEPS for width in _STEPS),
}
"""What ``LlavaOnevisionConfig`` assumes; the place of line breaks, LLaVA-Video's own field, has one value there."""
_TOWER = {
    "model_type": SIGLIP,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "patch_size": 14,
    "image_size": 384,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
}
"""What transformers' ``LlavaOnevisionConfig`` assumes where ``vision_config`` is missing."""
_VIDEO_NAMES = ("video_preprocessor_config.json", *NAMES)
_TOO_MANY = 1.1
"""Thinned is what has more tokens along a side than this factor times what is allowed."""


class Resampling(NamedTuple):
    """Rows and columns of a grid of tokens, before and after it is resampled."""

    before: Size
    after: Size


@dataclass(frozen=True, kw_only=True)
class LlavaOnevisionConfig(TiledConfig):
    """Everything that shapes weights and graph.

    Args:
        tiling: Of the one picture; None = every tile is a whole picture or frame.
        resampling: Of the tiled picture without its overview, or of every frame; None = tokens are patches.
        is_video: Tiles are frames.
    """

    tiling: TileLayout | None
    resampling: Resampling | None
    is_video: bool


class _Plan(NamedTuple):
    """What of a configuration depends on the deployment; ``items`` has one entry for each picture or video."""

    tiling: TileLayout | None
    resampling: Resampling | None
    blocks: tuple[Size, ...]
    items: list[tuple[Item, ...]]


def read_config(folder: Path, deployment: Deployment) -> LlavaOnevisionConfig:
    """Read the configuration of a checkpoint.

    Args:
        folder: Of the checkpoint.
        deployment: How it will be used; with frames each view is a video of so many.

    Raises:
        CheckpointError: A file or field is missing or wrong, or asks for what is not known here.
        ExportError: The deployment's pictures are too narrow to tile.
    """
    fields = JsonFields(read_object(folder, "config.json"), "config.json", _DEFAULTS)
    fields.expect("model_type", (MODEL_TYPE,))
    if deployment.frames:
        processor = read_image_processor(folder, _VIDEO_NAMES, "video_processor")
    else:
        processor = read_image_processor(folder)
    tower, text = read_tower_and_text(fields, processor, _TOWER, "qwen2")
    if deployment.frames:
        plan = _plan_video(fields, tower, deployment)
    elif deployment.views > 1:
        square = (tower.side, tower.side)
        picture = (*grid_items(*square, newline=False), NEWLINE)
        plan = _Plan(None, None, (square,) * deployment.views, [picture] * deployment.views)
    else:
        plan = _plan_tiles(
            fields, processor, tower, deployment.image_size or (tower.image_size, tower.image_size)
        )
    prompt = frame_prompt(deployment.before, plan.items, deployment.between)
    return LlavaOnevisionConfig(
        tower=tower,
        text=text,
        blocks=plan.blocks,
        frame=fit_frame(PromptFrame(prompt, deployment.max_text_tokens), text),
        tiling=plan.tiling,
        resampling=plan.resampling,
        is_video=bool(deployment.frames),
    )


def key_rules(config: LlavaOnevisionConfig) -> KeyRules:
    """Return how stored weights come to our names."""
    return tiled_key_rules(config)


def prepare_images(config: LlavaOnevisionConfig, pictures: Iterable[Pixels]) -> Pixels:
    """Bring the pictures of one observation to what the graph takes.

    Args:
        config: The model's.
        pictures: uint8 ``(height, width, 3)``, RGB: the one picture, every view, or every frame of every video.

    Returns:
        uint8 ``(tiles, image_size, image_size, 3)``.

    Raises:
        ImageError: The picture to tile has another size or dtype than the model was exported for.
    """
    if config.tiling is not None:
        return np.concatenate([cut_tiles(picture, config.tiling) for picture in pictures])
    if not config.is_video:
        red, green, blue = (int(mean * 255) for mean in config.tower.pixel_mean)
        pictures = (pad_to_square(picture, (red, green, blue)) for picture in pictures)
    side = config.tower.image_size
    return np.stack([squash(picture, (side, side)) for picture in pictures])


class LlavaOnevision(TiledLlava):
    """The model.

    Where tokens are resampled, the projector runs before, as in the reference: then :meth:`arrange` gives tokens of the
    decoder's width, and :meth:`embed_visual` has nothing left to do.
    """

    config: LlavaOnevisionConfig

    def arrange(self, features: Tensor) -> Tensor:
        """``(batch, tiles * patches, vision_width)`` -> ``(batch, visual, channels)``: ``width`` if resampled."""
        tiling, resampling = self.config.tiling, self.config.resampling
        if tiling is not None:
            features = take_patches(features, tiling.patches)
        if resampling is None:
            return features
        tokens: Tensor = self.projector(features)
        if tiling is None:
            frames = tokens.unflatten(1, (-1, self.config.tower.tokens))
            return resample(frames, *resampling).flatten(1, 2)
        overview, picture = tokens.tensor_split((self.config.tower.tokens,), dim=1)
        return torch.cat([overview, resample(picture, *resampling)], dim=1)

    def embed_visual(self, tower_tokens: Tensor) -> Tensor:
        """``(batch, alive, channels)`` -> ``(batch, alive, width)``."""
        return tower_tokens if self.config.resampling is not None else super().embed_visual(tower_tokens)


def build(config: LlavaOnevisionConfig) -> LlavaOnevision:
    """Return the model without its weights, on the meta device."""
    with torch.device("meta"):
        return LlavaOnevision(config)


def _plan_tiles(fields: JsonFields, processor: ImageProcessor, tower: VisionConfig, picture: Size) -> _Plan:
    tiling = lay_out(
        picture, read_pinpoints(fields, processor, tower.image_size), tower.image_size, tower.side
    )
    rule = fields.take("vision_aspect_ratio", str)
    found = re.fullmatch(r"anyres_max_([1-9]\d*)", rule)
    if found is None:
        raise CheckpointError(
            f"vision_aspect_ratio: expected 'anyres_max_' and a number of tiles, found {rule!r}; correct config.json."
        )
    overview, grid = (tower.side, tower.side), tiling.grid
    ratio = math.sqrt(grid[0] * grid[1] / (int(found[1]) * tower.tokens))
    shown = (int(grid[0] // ratio), int(grid[1] // ratio)) if ratio > _TOO_MANY else grid
    items = (*grid_items(*overview, newline=False), *grid_items(*shown, newline=True))
    return _Plan(tiling, None if shown == grid else Resampling(grid, shown), (overview, shown), [items])


def _plan_video(fields: JsonFields, tower: VisionConfig, deployment: Deployment) -> _Plan:
    for name, accepted in (
        ("mm_newline_position", ("one_token", "grid")),
        ("mm_spatial_pool_mode", ("bilinear",)),
        ("mm_spatial_pool_stride", (2,)),
        ("add_faster_video", (False,)),
    ):
        fields.expect(name, accepted)
    half = math.ceil(tower.side / 2)
    if fields.take("mm_newline_position", str) == "grid":
        video = grid_items(deployment.frames * half, half, newline=True)
    else:
        video = (*grid_items(deployment.frames * half, half, newline=False), NEWLINE)
    return _Plan(
        None,
        Resampling((tower.side, tower.side), (half, half)),
        ((half, half),) * (deployment.frames * deployment.views),
        [video] * deployment.views,
    )
