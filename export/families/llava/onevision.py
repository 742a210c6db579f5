"""LLaVA-OneVision, and LLaVA-Video converted to its layout: SigLIP over tiles, pictures or frames, and Qwen2.

    [BOS and what precedes, line breaks] [visual] [question, padded on its right]

What becomes visual tokens depends on the deployment, as it does in the reference's processor:

    one picture        an overview, then the tiled picture un-padded, thinned bilinearly if it has too many tokens; a
                       line break after each of its rows
    several pictures   each padded to a square, in one tile; a line break after each
    frames             each in one tile, bilinearly to half the side; one line break after the video (LLaVA-OneVision),
                       or after each row of each frame (LLaVA-Video: ``mm_newline_position`` is ``grid``)

Line breaks stay whatever a policy drops; those of LLaVA-Video, one for each row of a regular grid, are visual tokens
themselves (``Grid.newline``), so that a policy may let them follow their rows.

Source:
    LLaVA-OneVision (2408.03326) as in transformers' ``LlavaOnevisionForConditionalGeneration``, 5.23. LLaVA-Video
    (2410.02713): ``add_token_per_grid`` in ``llava_arch.py`` of LLaVA-VL/LLaVA-NeXT; as published it is read by
    :mod:`.llava_video`. Fixed here: the number of pictures, their size, and the prompt frame.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.export.families.base import Pooling
from saccade.export.families.deployment import Deployment
from saccade.export.families.llava.tiled import (
    PINPOINTS,
    TiledConfig,
    TiledLlava,
    fit_prompt,
    read_pinpoints,
    read_tower_and_text,
    take_patches,
    tiled_key_rules,
)
from saccade.export.families.prompt_layout import (
    IMAGE,
    NEWLINE,
    Item,
    PromptLayout,
    grid_items,
    lay_out_prompt,
)
from saccade.export.families.reader import AnsweringReader, UsualDeployment
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.image_processor import NAMES, ImageProcessor, read_image_processor
from saccade.export.loading.json_fields import JsonFields
from saccade.export.loading.key_rules import KeyRules
from saccade.export.loading.vision_tower import SIGLIP
from saccade.export.models.bilinear import resample
from saccade.export.models.vision_transformer import VisionConfig
from saccade.policies.base import Grid
from saccade.proto.errors import CheckpointError, ExportError
from saccade.proto.picture_fit import FitMethod, PictureFit, Resample
from saccade.proto.tiling import Size, TileLayout, Tiling
from saccade.proto.video_spec import FrameSampling, VideoSpec

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
TOWER: Mapping[str, object] = {
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
    """Everything that shapes weights and graph of a LLaVA-OneVision model.

    Args:
        tiling: How one picture of any size is cut into tiles; None = every tile is a whole picture or frame.
        tiles: How the one picture of this deployment is cut into tiles; None = every tile is a whole picture or frame.
        resampling: Grid of the tiled picture without its overview, or of every frame, before and after; None = tokens
            are patches.
        frames: Frames of each video; 0 = still pictures.
        breaks_rows: The last column of the grid is line breaks.
    """

    tiling: Tiling | None
    tiles: TileLayout | None
    resampling: Resampling | None
    frames: int
    breaks_rows: bool

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the pictures or frames; one row of tokens where blocks differ."""
        return replace(super().grid, newline=self.breaks_rows)


class TokenPlan(NamedTuple):
    """The part of a configuration that depends on the deployment; ``items`` has one entry for each picture or video."""

    tiling: Tiling | None
    tiles: TileLayout | None
    resampling: Resampling | None
    blocks: tuple[Size, ...]
    items: list[tuple[Item, ...]]
    breaks_rows: bool = False


def read_config(folder: CheckpointFolder, deployment: Deployment) -> LlavaOnevisionConfig:
    """Read the configuration of a checkpoint.

    Args:
        folder: The checkpoint that is read.
        deployment: How the model will be used; with frames each view is a video of so many.

    Raises:
        CheckpointError: A file or field is missing or wrong, or asks for what is not known here.
        ExportError: The deployment fixes the size of what is taken in any size: several pictures, or frames.
        ImageError: The one picture of the deployment is too narrow to tile.
    """
    fields = folder.fields("config.json", _DEFAULTS)
    fields.expect("model_type", (MODEL_TYPE,))
    _check_size_is_used(deployment)
    if deployment.frames:
        processor = read_image_processor(folder, _VIDEO_NAMES, "video_processor")
    else:
        processor = read_image_processor(folder)
    tower, text = read_tower_and_text(fields, processor, TOWER, "qwen2")
    if deployment.frames:
        plan = read_video_plan(fields, tower, deployment)
    elif deployment.views > 1:
        square = (tower.side, tower.side)
        picture = (*grid_items(*square, newline=False), NEWLINE)
        plan = TokenPlan(None, None, None, (square,) * deployment.views, [picture] * deployment.views)
    else:
        plan = _plan_tiles(
            fields, processor, tower, deployment.image_size or (tower.image_size, tower.image_size)
        )
    prompt = lay_out_prompt(deployment.before, plan.items, deployment.between)
    return LlavaOnevisionConfig(
        tower=tower,
        text=text,
        blocks=plan.blocks,
        prompt_layout=fit_prompt(PromptLayout(prompt, deployment.max_text_tokens), text),
        tiling=plan.tiling,
        tiles=plan.tiles,
        resampling=plan.resampling,
        frames=deployment.frames,
        breaks_rows=plan.breaks_rows,
    )


def key_rules(config: LlavaOnevisionConfig) -> KeyRules:
    """Return how stored weights come to our names."""
    return tiled_key_rules(config)


class LlavaOnevision(TiledLlava):
    """The LLaVA-OneVision model, and LLaVA-Video's.

    Where tokens are resampled, the projector runs before, as in the reference: then :meth:`arrange` gives tokens of the
    decoder's width, and :meth:`embed_visual` has nothing left to do.
    """

    config: LlavaOnevisionConfig

    @property
    def keeps_patches(self) -> bool:
        """Whether visual tokens are the tower's patches: only where each picture is one tile, and nothing is pooled."""
        return self.config.tiling is None and self.config.resampling is None

    @property
    def pictures(self) -> int:
        """Tiles of the one picture, or pictures or frames that are each a tile."""
        tiles = self.config.tiles
        return len(self.config.blocks) if tiles is None else tiles.tiles

    @property
    def pooling(self) -> Pooling | None:
        """Resampling of the tiled picture behind its overview, or of every frame."""
        if self.config.resampling is None:
            return None
        (rows, columns), (fewer_rows, fewer_columns) = self.config.resampling
        tiles, blocks = self.config.tiles, len(self.config.blocks)
        grids = blocks if tiles is None else 1
        each = fewer_rows * rows * columns + fewer_rows * fewer_columns * columns
        projected = blocks * self.config.tower.tokens if tiles is None else len(tiles.patches)
        return Pooling(projected, grids * self.config.text.decoder.width * each)

    def arrange(self, features: Tensor) -> Tensor:
        """Turn ``(batch, tiles * patches, vision_width)`` into ``(batch, visual, channels)``; ``width`` if pooled."""
        taken = self._take(features)
        if self.config.resampling is None:
            return taken
        tokens = self._pool(self.projector(taken))
        if not self.config.breaks_rows:
            return tokens
        grid = self.grid
        column = torch.arange(grid.tokens, device=tokens.device) % grid.columns
        return torch.where((column == grid.columns - 1).unsqueeze(1), self.image_newline, tokens)

    def arrange_signal(self, signal: Tensor) -> Tensor:
        """Turn ``(batch, tiles * patches, channels)`` into ``(batch, visual, channels)``; 0 for line breaks."""
        return self._pool(self._take(signal))

    def _take(self, patches: Tensor) -> Tensor:
        """Keep what the picture covers."""
        tiles = self.config.tiles
        return patches if tiles is None else take_patches(patches, tiles.patches)

    def _pool(self, patches: Tensor) -> Tensor:
        """Resample the tiled picture behind its overview, or every frame."""
        resampling, per_tile = self.config.resampling, self.config.tower.tokens
        if resampling is None:
            return patches
        if self.config.tiles is not None:
            overview, picture = patches.tensor_split((per_tile,), dim=1)
            return torch.cat([overview, resample(picture, *resampling)], dim=1)
        frames = resample(patches.unflatten(1, (-1, per_tile)), *resampling)
        if self.config.breaks_rows:
            frames = F.pad(frames.unflatten(2, resampling.after), (0, 0, 0, 1)).flatten(2, 3)
        return frames.flatten(1, 2)

    def embed_visual(self, tower_tokens: Tensor) -> Tensor:
        """Project ``(batch, alive, channels)`` to ``(batch, alive, width)``, unless :meth:`arrange` did so."""
        return tower_tokens if self.config.resampling is not None else super().embed_visual(tower_tokens)


def prompt(views: int) -> str:
    """Return the text around ``views`` pictures or videos that the published checkpoints were trained with."""
    return f"<|im_start|>user {IMAGE * views}\n{{instruction}}<|im_end|><|im_start|>assistant\n"


def picture_size(config: LlavaOnevisionConfig) -> tuple[int, int]:
    """Return height and width of the pictures that tokens are laid out for, pixels."""
    side = config.tower.image_size
    return (side, side) if config.tiles is None else config.tiles.picture


def picture_fit(config: LlavaOnevisionConfig) -> PictureFit:
    """Return what the family's image processor does: tiles of one picture, squares of several, frames as they are."""
    if config.tiling is not None:
        return PictureFit(FitMethod.TILE, Resample.BICUBIC, tiling=config.tiling)
    if config.frames:
        return PictureFit(FitMethod.STRETCH, Resample.BICUBIC)
    background = tuple(int(mean * 255) for mean in config.tower.pixel_mean)
    return PictureFit(FitMethod.PAD, Resample.BICUBIC, background=background)


def video_spec(config: LlavaOnevisionConfig) -> VideoSpec:
    """Return which frames of a video are looked at: as transformers' processor does, or the LLaVA-Video repository."""
    sampling = FrameSampling.BOTH_ENDS if config.breaks_rows else FrameSampling.FROM_START
    return VideoSpec(config.frames, sampling)


def build(config: LlavaOnevisionConfig) -> LlavaOnevision:
    """Return the model without its weights, on the meta device."""
    with torch.device("meta"):
        return LlavaOnevision(config)


def read_video_plan(fields: JsonFields, tower: VisionConfig, deployment: Deployment) -> TokenPlan:
    """Return how frames become tokens.

    Args:
        fields: Fields of ``config.json``.
        tower: Tower that frames go through.
        deployment: How the model will be used, frames of a video included.

    Raises:
        CheckpointError: A field asks for what is not known here.
    """
    for name, accepted in (
        ("mm_newline_position", ("one_token", "grid")),
        ("mm_spatial_pool_mode", ("bilinear",)),
        ("mm_spatial_pool_stride", (2,)),
        ("add_faster_video", (False,)),
    ):
        fields.expect(name, accepted)
    half = math.ceil(tower.side / 2)
    breaks_rows = fields.take("mm_newline_position", str) == "grid"
    frame = (half, half + breaks_rows)
    frames = grid_items(deployment.frames * half, frame[1], newline=False)
    return TokenPlan(
        None,
        None,
        Resampling((tower.side, tower.side), (half, half)),
        (frame,) * (deployment.frames * deployment.views),
        [frames if breaks_rows else (*frames, NEWLINE)] * deployment.views,
        breaks_rows,
    )


def _check_size_is_used(deployment: Deployment) -> None:
    if deployment.image_size is not None and (deployment.frames or deployment.views > 1):
        height, width = deployment.image_size
        what = "frames" if deployment.frames else "several pictures"
        raise ExportError(
            f"expected no image size, found {width}x{height}: LLaVA-OneVision takes {what} of any size, and "
            "tiles only a single picture."
        )


def _plan_tiles(
    fields: JsonFields, processor: ImageProcessor, tower: VisionConfig, picture: Size
) -> TokenPlan:
    tiling = Tiling(read_pinpoints(fields, processor, tower.image_size), tower.image_size, tower.side)
    tiles = tiling.lay_out(picture)
    rule = fields.take("vision_aspect_ratio", str)
    found = re.fullmatch(r"anyres_max_([1-9]\d*)", rule)
    if found is None:
        raise CheckpointError(
            f"vision_aspect_ratio: expected 'anyres_max_' and a number of tiles, found {rule!r}; correct config.json."
        )
    overview, grid = (tower.side, tower.side), tiles.grid
    ratio = math.sqrt(grid[0] * grid[1] / (int(found[1]) * tower.tokens))
    shown = (int(grid[0] // ratio), int(grid[1] // ratio)) if ratio > _TOO_MANY else grid
    items = (*grid_items(*overview, newline=False), *grid_items(*shown, newline=True))
    resampling = None if shown == grid else Resampling(grid, shown)
    return TokenPlan(tiling, tiles, resampling, (overview, shown), [items])


READER = AnsweringReader(
    name=MODEL_TYPE,
    read_config=read_config,
    build=build,
    key_rules=key_rules,
    classes=("LlavaOnevisionForConditionalGeneration",),
    prompt=prompt,
    picture_size=picture_size,
    picture_fit=picture_fit,
    video_spec=video_spec,
    usual=UsualDeployment(
        views=1, text_tokens=64, new_tokens=64, image_size=(480, 640), any_size_of_many=True
    ),
)
