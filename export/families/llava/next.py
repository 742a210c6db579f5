"""LLaVA-NeXT (1.6): CLIP over an overview and tiles, patches un-padded, a line break after each row of tiles.

    [BOS and what precedes, line breaks] [visual: overview, tiled picture row by row] [question, padded on its right]

The host cuts pictures into tiles (:func:`picture_fit`). Rows are broken in the tiled picture, never in its overview.

Source:
    LLaVA-NeXT (llava-vl.github.io/blog/2024-01-30-llava-next) as in transformers 5.23,
    ``LlavaNextForConditionalGeneration``. Fixed here: the number of pictures, their size, and the layout of the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.export.families.deployment import Deployment
from saccade.export.families.llava.tiled import (
    PINPOINTS,
    TiledConfig,
    TiledLlava,
    fit_prompt,
    read_pinpoints,
    read_tower_and_text,
    still_pictures,
    take_patches,
    tiled_key_rules,
)
from saccade.export.families.prompt_layout import IMAGE, PromptLayout, grid_items, lay_out_prompt
from saccade.export.families.reader import AnsweringReader
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.image_processor import read_image_processor
from saccade.export.loading.key_rules import KeyRules
from saccade.export.loading.vision_tower import CLIP
from saccade.proto.errors import CheckpointError
from saccade.proto.picture_fit import FitMethod, PictureFit, Resample
from saccade.proto.tiling import TileLayout, Tiling

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
    """Everything that shapes weights and graph of a LLaVA-NeXT model.

    Args:
        tiling: How pictures of any size are cut into tiles.
        tiles: How every picture of this deployment is cut into tiles.
    """

    tiling: Tiling
    tiles: TileLayout


def read_config(folder: CheckpointFolder, deployment: Deployment) -> LlavaNextConfig:
    """Read the configuration of a checkpoint.

    Args:
        folder: The checkpoint that is read.
        deployment: How the model will be used.

    Raises:
        CheckpointError: A file or field is missing or wrong, or asks for what is not known here.
        ExportError: The deployment asks for video.
        ImageError: The deployment's pictures are too narrow to tile.
    """
    still_pictures(deployment, "LLaVA-NeXT")
    fields = folder.fields("config.json", _DEFAULTS)
    fields.expect("model_type", (MODEL_TYPE,))
    processor = read_image_processor(folder)
    tower, text = read_tower_and_text(fields, processor, _TOWER, "llama")
    tiling = Tiling(read_pinpoints(fields, processor, tower.image_size), tower.image_size, tower.side)
    tiles = tiling.lay_out(deployment.image_size or (tower.image_size, tower.image_size))
    picture = (
        *grid_items(tower.side, tower.side, newline=False),
        *grid_items(*tiles.grid, newline=True),
    )
    prompt = lay_out_prompt(deployment.before, [picture] * deployment.views, deployment.between)
    return LlavaNextConfig(
        tower=tower,
        text=text,
        blocks=((tower.side, tower.side), tiles.grid) * deployment.views,
        prompt_layout=fit_prompt(PromptLayout(prompt, deployment.max_text_tokens), text),
        tiling=tiling,
        tiles=tiles,
    )


def key_rules(config: LlavaNextConfig) -> KeyRules:
    """Return how stored weights come to our names."""
    return tiled_key_rules(config)


class LlavaNext(TiledLlava):
    """The LLaVA-NeXT model."""

    config: LlavaNextConfig

    @property
    def pictures(self) -> int:
        """Tiles of an observation: those of an overview and of a tiled picture for each view."""
        return self.config.tiles.tiles * (len(self.config.blocks) // 2)

    def arrange_signal(self, signal: Tensor) -> Tensor:
        """Take visual tokens ``(batch, visual, channels)`` out of ``(batch, views * tiles * patches, channels)``."""
        tiles, channels = self.config.tiles, signal.shape[-1]
        views = signal.reshape(-1, tiles.tiles * tiles.side**2, channels)
        return take_patches(views, tiles.patches).reshape(signal.shape[0], -1, channels)


def prompt(views: int) -> str:
    """Refuse to guess: checkpoints of this family differ in their language model, and so in their prompts.

    Raises:
        CheckpointError: Always.
    """
    pictures = "\\n".join([IMAGE] * views)
    raise CheckpointError(
        "expected a chat template in the checkpoint (chat_template.jinja, chat_template.json, tokenizer_config.json), "
        "found none: LLaVA-NeXT's prompt depends on its language model. Copy it from the published checkpoint, or "
        f"give --prompt, such as $'[INST] {pictures}\\n{{instruction}} [/INST]' (Mistral)."
    )


def picture_size(config: LlavaNextConfig) -> tuple[int, int]:
    """Return height and width of the pictures that tokens are laid out for, pixels."""
    return config.tiles.picture


def picture_fit(config: LlavaNextConfig) -> PictureFit:
    """Return how the family's image processor cuts pictures into tiles."""
    return PictureFit(FitMethod.TILE, Resample.BICUBIC, tiling=config.tiling)


def build(config: LlavaNextConfig) -> LlavaNext:
    """Return the model without its weights, on the meta device."""
    with torch.device("meta"):
        return LlavaNext(config)


READER = AnsweringReader(
    name=MODEL_TYPE,
    read_config=read_config,
    build=build,
    key_rules=key_rules,
    classes=("LlavaNextForConditionalGeneration",),
    prompt=prompt,
    picture_size=picture_size,
    picture_fit=picture_fit,
)
