"""What the LLaVA families share: a tower over tiles, a projector, a line break, and their checkpoints."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from saccade.export.families.deployment import Deployment
from saccade.export.families.generating import GeneratingModel
from saccade.export.families.prompt_layout import PromptLayout
from saccade.export.loading.image_processor import ImageProcessor
from saccade.export.loading.json_fields import JsonFields
from saccade.export.loading.key_rules import KeyRules
from saccade.export.loading.text_decoder import TextModel, read_text_model, text_fields
from saccade.export.loading.vision_tower import read_tower, tower_fields, tower_renames, tower_unused
from saccade.export.models.action_head import MlpProjector
from saccade.export.models.vision_transformer import VisionConfig, VisionTransformer
from saccade.policies.base import Grid
from saccade.proto.errors import CheckpointError, ExportError
from saccade.proto.tiling import Size

PINPOINTS = "image_grid_pinpoints"
_BICUBIC = 3


@dataclass(frozen=True, kw_only=True)
class TiledConfig:
    """What shapes weights and graph of a LLaVA model.

    Args:
        tower: Vision tower, read where the family reads it; its tokens are those of one tile.
        text: The language model.
        blocks: Rows and columns of visual tokens, one pair for each overview, tiled picture or frame, in their order.
        prompt_layout: The prompt up to the user's text.
    """

    tower: VisionConfig
    text: TextModel
    blocks: tuple[Size, ...]
    prompt_layout: PromptLayout

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the blocks; one row of tokens where blocks differ."""
        if len(set(self.blocks)) == 1:
            return Grid(len(self.blocks), *self.blocks[0])
        return Grid(1, 1, self.prompt_layout.visual, irregular=True)


class TiledLlava(GeneratingModel):
    """Tower, projector and decoder; a family says how the tower's patches become visual tokens.

    Args:
        config: Configuration of the model.
    """

    config: TiledConfig
    has_newline = True

    def __init__(self, config: TiledConfig) -> None:
        super().__init__(config.text.decoder, config.prompt_layout, has_newline=self.has_newline)
        self.config = config
        self.vision = VisionTransformer(config.tower)
        width = config.text.decoder.width
        self.projector = MlpProjector(config.tower.width, width, width)

    @property
    def towers(self) -> tuple[VisionTransformer, ...]:
        """The one tower."""
        return (self.vision,)

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the observation."""
        return self.config.grid

    @property
    def pictures(self) -> int:
        """Tiles of an observation: one for each block here."""
        return len(self.config.blocks)

    def visual_tokens(self, images: Tensor) -> Tensor:
        """uint8 ``(batch, tiles, height, width, 3)``, every tile of every picture -> what :meth:`arrange` gives."""
        features = self.vision.encode_pixels(images.float().flatten(0, 1))
        return self.arrange(features.reshape(images.shape[0], -1, features.shape[-1]))

    def on_the_way(self, images: Tensor) -> dict[str, Tensor]:
        """Return normalised pixels and the features of every patch, for uint8 ``(tiles, height, width, 3)``."""
        scale = self.vision.config
        pixels = (images / 255.0 - torch.tensor(scale.pixel_mean)) / torch.tensor(scale.pixel_std)
        features = self.vision.encode_pixels(images.float()).flatten(0, 1)
        return {"pictures": pixels, "vision features": features}

    @property
    def keeps_patches(self) -> bool:
        """Whether visual tokens are the tower's patches: no, those are reordered, and some are dropped or pooled."""
        return False

    def arrange(self, features: Tensor) -> Tensor:
        """Tower features of all patches ``(batch, patches, vision_width)`` -> ``(batch, visual, channels)``."""
        return self.arrange_signal(features)

    @abstractmethod
    def arrange_signal(self, signal: Tensor) -> Tensor:
        """Turn ``(batch, patches, channels)`` into ``(batch, visual, channels)``: averaged where tokens are pooled."""

    def embed_visual(self, tower_tokens: Tensor) -> Tensor:
        """Project tower features ``(batch, alive, vision_width)`` to ``(batch, alive, width)``."""
        embedded: Tensor = self.projector(tower_tokens)
        return embedded


def still_pictures(deployment: Deployment, family: str) -> None:
    """Refuse video for a family that was not trained on it.

    Raises:
        ExportError: The deployment has frames.
    """
    if deployment.frames:
        raise ExportError(
            f"expected frames = 0, found {deployment.frames}: {family} takes still pictures; use LLaVA-OneVision."
        )


def take_patches(features: Tensor, patches: Sequence[int]) -> Tensor:
    """Keep of ``(batch, patches, channels)`` those that become tokens, in their order."""
    return features.index_select(1, torch.tensor(patches, device=features.device))


def read_tower_and_text(
    fields: JsonFields, processor: ImageProcessor, tower_defaults: Mapping[str, object], text_type: str
) -> tuple[VisionConfig, TextModel]:
    """Read the configurations of tower and language model, and of what joins them.

    Args:
        fields: Fields of ``config.json``.
        processor: Image processor of the checkpoint.
        tower_defaults: What the family's class assumes where ``vision_config`` is missing.
        text_type: What the family's class assumes where ``text_config`` names no ``model_type``.

    Raises:
        CheckpointError: A field is missing or wrong, or asks for what is not known here.
    """
    fields.expect("projector_hidden_act", ("gelu",))
    fields.expect("multimodal_projector_bias", (True,))
    inside = tower_fields(fields, "vision_config", tower_defaults)
    tower = read_tower(
        inside,
        read_block=_read_block(fields, inside.take("num_hidden_layers", int)),
        final_norm=False,
        mean=processor.mean,
        std=processor.std,
    )
    # "default" drops the first token, which is right where it is CLS.
    strategy, wanted = (
        fields.take("vision_feature_select_strategy", str),
        "default" if tower.class_token else "full",
    )
    if strategy != wanted:
        raise CheckpointError(
            f"vision_feature_select_strategy: expected {wanted!r}, which gives the patches of this tower, found "
            f"{strategy!r}, with which nothing here runs it."
        )
    _check_size(processor.fields, tower.image_size)
    kind = fields.child("text_config", {"model_type": text_type}).take("model_type", str)
    text = read_text_model(text_fields(fields, "text_config", kind), kind)
    return tower, replace(text, is_tied=text.is_tied or fields.take("tie_word_embeddings", bool))


def read_pinpoints(fields: JsonFields, processor: ImageProcessor, tile_px: int) -> tuple[Size, ...]:
    """Return the canvases that pictures are padded to, pixels.

    Raises:
        CheckpointError: The image processor has others than the model, or one is not made of whole tiles.
    """
    pinpoints = fields.rows(PINPOINTS, int)
    if processor.fields.has(PINPOINTS) and processor.fields.rows(PINPOINTS, int) != pinpoints:
        raise CheckpointError(
            f"{PINPOINTS}: expected in config.json what the image processor's file has, found another list; copy "
            "both from the same checkpoint."
        )
    for point in pinpoints:
        if len(point) != 2 or any(side < tile_px or side % tile_px for side in point):
            raise CheckpointError(
                f"{PINPOINTS}: expected height and width in whole tiles of {tile_px} pixels, found {list(point)}; "
                "correct config.json."
            )
    if not pinpoints:
        raise CheckpointError(f"{PINPOINTS}: expected at least one, found none; correct config.json.")
    return tuple((height, width) for height, width in pinpoints)


def fit_prompt(layout: PromptLayout, text: TextModel) -> PromptLayout:
    """Return a prompt that a language model can take as a whole.

    Raises:
        CheckpointError: The prompt is longer than the window of attention.
    """
    tokens = sum(layout.segments.values())
    if text.most_tokens is not None and tokens > text.most_tokens:
        raise CheckpointError(
            f"sliding_window: expected room for the {tokens} tokens of this deployment, found {text.most_tokens}; use "
            "fewer pictures, smaller ones, or a checkpoint without a window."
        )
    return layout


def tiled_key_rules(config: TiledConfig) -> KeyRules:
    """Return how stored weights come to our names, as the Hub has them and as transformers writes them."""
    return KeyRules(
        rename=(
            *tower_renames(r"(?:model\.)?vision_tower\.", "vision"),
            (r"^(?:model\.)?multi_modal_projector\.linear_([12])\.", r"projector.fc\1."),
            (r"^model\.image_newline$", "image_newline"),
            (r"^(?:model\.)?language_model\.(?:model\.)?(?!lm_head)", "decoder."),
            (r"^language_model\.lm_head\.", "lm_head."),
        ),
        unused=tower_unused(config.tower, "vision"),
        ties={"lm_head.weight": "decoder.embed_tokens.weight"} if config.text.is_tied else {},
    )


def _read_block(fields: JsonFields, depth: int) -> int:
    """Return the block whose output is state ``vision_feature_layer``; state 0 is what enters the first block."""
    state = fields.take("vision_feature_layer", int)
    if state == 0 or abs(state) > depth:
        raise CheckpointError(
            f"vision_feature_layer: expected -{depth} to -1 or 1 to {depth}, found {state}; correct config.json."
        )
    return state - 1 if state > 0 else state


def _check_size(processor: JsonFields, tile_px: int) -> None:
    """Refuse an image processor that gives the tower something else than bicubically resized tiles of its size."""
    processor.expect("do_resize", (True,))
    processor.expect("resample", (_BICUBIC,))
    processor.expect("rescale_factor", (1 / 255,))
    sizes = [processor.child("size")]
    if processor.has("crop_size"):
        sizes.append(processor.child("crop_size"))
    for size in sizes:
        for name in ("shortest_edge", "height", "width"):
            size.expect(name, (tile_px,))
