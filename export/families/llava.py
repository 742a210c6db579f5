"""LLaVA-1.5: CLIP patches through an MLP into a Llama that answers in text.

    [BOS and what precedes the image] [visual: patches] [question, padded on its right]

Source:
    LLaVA-1.5 (2310.03744) as in transformers' ``LlavaForConditionalGeneration``. Images are what its checkpoint's image
    processor makes of them: shortest edge, then the middle. Fixed here: the number of pictures and the prompt frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from saccade.export.families.deployment import Deployment
from saccade.export.families.generating import GeneratingModel
from saccade.export.families.prompt_frame import PromptFrame, frame_prompt, grid_items
from saccade.export.loading.image_processor import read_image_processor
from saccade.export.loading.json_fields import JsonFields, read_object
from saccade.export.loading.key_rules import KeyRules
from saccade.export.loading.text_decoder import TextModel, read_text_model, text_fields
from saccade.export.loading.vision_tower import CLIP, read_tower, tower_fields, tower_renames, tower_unused
from saccade.export.models.action_head import MlpProjector
from saccade.export.models.vision_transformer import VisionConfig, VisionTransformer
from saccade.policies.base import Grid

MODEL_TYPE = "llava"
_DEFAULTS = {
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "projector_hidden_act": "gelu",
    "image_token_index": 32000,
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
"""What transformers' ``LlavaConfig`` assumes where ``vision_config`` is missing."""


@dataclass(frozen=True)
class LlavaConfig:
    """Everything that shapes weights and graph.

    Args:
        tower: CLIP, read before its last block.
        text: The language model.
        views: Pictures of one question.
        frame: The prompt.
    """

    tower: VisionConfig
    text: TextModel
    views: int
    frame: PromptFrame

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the pictures."""
        return Grid(self.views, self.tower.side, self.tower.side)


def read_config(folder: Path, deployment: Deployment) -> LlavaConfig:
    """Read the configuration of a checkpoint.

    Args:
        folder: Of the checkpoint.
        deployment: How it will be used.

    Raises:
        CheckpointError: A file or field is missing or wrong, or asks for what is not known here.
    """
    fields = JsonFields(read_object(folder, "config.json"), "config.json", _DEFAULTS)
    fields.expect("model_type", (MODEL_TYPE,))
    fields.expect("vision_feature_select_strategy", ("default",))
    fields.expect("projector_hidden_act", ("gelu",))
    fields.expect("multimodal_projector_bias", (True,))
    processor = read_image_processor(folder)
    tower = read_tower(
        tower_fields(fields, "vision_config", _TOWER),
        read_block=fields.take("vision_feature_layer", int),
        final_norm=False,
        mean=processor.mean,
        std=processor.std,
    )
    kind = fields.child("text_config", {"model_type": "llama"}).take("model_type", str)
    text = read_text_model(text_fields(fields, "text_config", kind), kind)
    images = [grid_items(tower.side, tower.side, newline=False)] * deployment.views
    prompt = frame_prompt(deployment.before, images, deployment.between)
    return LlavaConfig(tower, text, deployment.views, PromptFrame(prompt, deployment.max_text_tokens))


def key_rules(config: LlavaConfig) -> KeyRules:
    """Return how stored weights come to our names."""
    return KeyRules(
        rename=(
            *tower_renames(r"(?:model\.)?vision_tower\.", "vision"),
            (r"^(?:model\.)?multi_modal_projector\.linear_([12])\.", r"projector.fc\1."),
            (r"^(?:model\.)?language_model\.(?:model\.)?(?!lm_head)", "decoder."),
            (r"^language_model\.lm_head\.", "lm_head."),
        ),
        unused=tower_unused(config.tower, "vision"),
        ties={"lm_head.weight": "decoder.embed_tokens.weight"} if config.text.is_tied else {},
    )


class Llava(GeneratingModel):
    """The model."""

    def __init__(self, config: LlavaConfig) -> None:
        super().__init__(config.text.decoder, config.frame)
        self.config = config
        self.vision = VisionTransformer(config.tower)
        width = config.text.decoder.width
        self.projector = MlpProjector(config.tower.width, width, width)

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the pictures."""
        return self.config.grid

    @property
    def towers(self) -> tuple[VisionTransformer, ...]:
        """The one tower."""
        return (self.vision,)

    def visual_tokens(self, images: Tensor) -> Tensor:
        """uint8 ``(batch, views, height, width, 3)`` -> tower features ``(batch, visual, vision_width)``."""
        features = self.vision.encode_pixels(images.float().flatten(0, 1))
        return features.reshape(images.shape[0], -1, features.shape[-1])

    def embed_visual(self, tower_tokens: Tensor) -> Tensor:
        """``(batch, alive, vision_width)`` -> ``(batch, alive, width)``."""
        embedded: Tensor = self.projector(tower_tokens)
        return embedded


def build(config: LlavaConfig) -> Llava:
    """Return the model without its weights, on the meta device."""
    with torch.device("meta"):
        return Llava(config)
