"""LLaVA-1.5: CLIP patches through an MLP into a Llama that answers in text.

    [BOS and what precedes the image] [visual: patches] [question, padded on its right]

Source:
    LLaVA-1.5 (2310.03744) as in transformers' ``LlavaForConditionalGeneration``. Images are what its checkpoint's image
    processor makes of them: LLaVA-1.5's keeps the middle, that of llava-interleave stretches, others pad. Fixed here:
    number of pictures, layout of the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.export.families.deployment import Deployment
from saccade.export.families.llava.tiled import (
    TiledConfig,
    TiledLlava,
    fit_prompt,
    read_tower_and_text,
    still_pictures,
    tiled_key_rules,
)
from saccade.export.families.prompt_layout import IMAGE, PromptLayout, grid_items, lay_out_prompt
from saccade.export.families.reader import AnsweringReader, UsualDeployment
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.image_processor import read_image_processor, square_fit
from saccade.export.loading.vision_tower import CLIP
from saccade.proto.errors import ExportError
from saccade.proto.picture_fit import PictureFit, Resample

MODEL_TYPE = "llava"
_DEFAULTS: dict[str, object] = {
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "projector_hidden_act": "gelu",
    "tie_word_embeddings": False,
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


@dataclass(frozen=True, kw_only=True)
class LlavaConfig(TiledConfig):
    """Everything that shapes weights and graph of a LLaVA-1.5 model.

    Args:
        fit: How a picture becomes the tower's square.
    """

    fit: PictureFit


def read_config(folder: CheckpointFolder, deployment: Deployment) -> LlavaConfig:
    """Read the configuration of a checkpoint.

    Args:
        folder: The checkpoint that is read.
        deployment: How the model will be used.

    Raises:
        CheckpointError: A file or field is missing or wrong, or asks for what is not known here.
        ExportError: The deployment asks for video, or for pictures of one size.
    """
    still_pictures(deployment, "LLaVA-1.5")
    if deployment.image_size is not None:
        height, width = deployment.image_size
        raise ExportError(
            f"expected no image size, found {width}x{height}: LLaVA-1.5 takes pictures of any size."
        )
    fields = folder.fields("config.json", _DEFAULTS)
    fields.expect("model_type", (MODEL_TYPE,))
    processor = read_image_processor(folder)
    tower, text = read_tower_and_text(fields, processor, _TOWER, "llama")
    images = [grid_items(tower.side, tower.side, newline=False)] * deployment.views
    prompt = lay_out_prompt(deployment.before, images, deployment.between)
    laid_out = fit_prompt(PromptLayout(prompt, deployment.max_text_tokens), text)
    return LlavaConfig(
        tower=tower,
        text=text,
        blocks=((tower.side, tower.side),) * deployment.views,
        prompt_layout=laid_out,
        fit=square_fit(processor, Resample.BICUBIC),
    )


key_rules = tiled_key_rules


class Llava(TiledLlava):
    """The LLaVA-1.5 model: one tile for each picture, every patch a visual token."""

    has_newline = False

    @property
    def keeps_patches(self) -> bool:
        """Whether visual tokens are the tower's patches, one for one: here always."""
        return True

    def arrange_signal(self, signal: Tensor) -> Tensor:
        """Return the signal ``(batch, patches, channels)`` as it is: visual tokens are patches."""
        return signal


def prompt(views: int) -> str:
    """Return the text around ``views`` pictures that the published checkpoints were trained with."""
    return "USER: " + "\n".join([IMAGE] * views) + "\n{instruction} ASSISTANT:"


def picture_size(config: LlavaConfig) -> tuple[int, int]:
    """Return height and width of the pictures that the graph takes, pixels."""
    return config.tower.image_size, config.tower.image_size


def picture_fit(config: LlavaConfig) -> PictureFit:
    """Return how the checkpoint's image processor makes pictures fit."""
    return config.fit


def build(config: LlavaConfig) -> Llava:
    """Return the model without its weights, on the meta device."""
    with torch.device("meta"):
        return Llava(config)


READER = AnsweringReader(
    name=MODEL_TYPE,
    read_config=read_config,
    build=build,
    key_rules=key_rules,
    classes=("LlavaForConditionalGeneration",),
    prompt=prompt,
    picture_size=picture_size,
    picture_fit=picture_fit,
    usual=UsualDeployment(views=1, text_tokens=64, new_tokens=64),
)
