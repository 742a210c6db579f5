"""OpenVLA: two towers' patches through an MLP into a causal Llama that says one action, a token for each dimension.

    [BOS] [visual: patches] [In: What action should the robot take to <task>? Out:, padded on its right] -> tokens

Source:
    OpenVLA (2406.09246), openvla/openvla c8f03f4. Greedy over the whole vocabulary, as there. Pictures come in
    any size, and become squares of the towers' size as the published processor makes them (its aspect disregarded). Of
    fine-tunes with augmented pictures the middle is looked at, where the embodiment says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.export.families.autoregressive import AutoregressiveModel
from saccade.export.families.deployment import Deployment
from saccade.export.families.openvla.action_tokens import ActionTokens
from saccade.export.families.prompt_layout import PromptLayout, grid_items, lay_out_prompt
from saccade.export.families.square_vision import SquareVision
from saccade.export.loading import prismatic
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.data_sets import Bounds, read_data_set
from saccade.export.loading.key_rules import KeyRules
from saccade.export.loading.text_decoder import TextModel
from saccade.export.loading.torch_heads import head_steps
from saccade.export.models.square_picture import SquarePicture
from saccade.export.models.vision_backbone import VisionBackbone, vision_projector
from saccade.export.models.vision_transformer import VisionConfig, VisionTransformer
from saccade.policies.base import Grid
from saccade.proto.errors import CheckpointError

MODEL_TYPE = prismatic.MODEL_TYPE
AUGMENTED = "image_aug"
"""What the published training writes into the folder's name, and its evaluation then insists on the crop."""
EVALUATED = 0.9
"""Share of a picture's area that fine-tunes with augmentation are evaluated on."""


@dataclass(frozen=True)
class OpenVlaConfig:
    """Everything that shapes weights and graph of an OpenVLA model, and what its answer means.

    Args:
        towers: One vision tower, or two that give the same number of tokens.
        text: The language model.
        prompt_layout: The prompt up to the instruction.
        tokens: The token ids that stand for actions.
        bounds: Physical values that become -1 and 1, from the data set whose actions are asked for.
        pad_id: Token id that fills a prompt on its right.
        picture: How the camera's picture becomes what the towers take.
    """

    towers: tuple[VisionConfig, ...]
    text: TextModel
    prompt_layout: PromptLayout
    tokens: ActionTokens
    bounds: Bounds
    pad_id: int
    picture: SquarePicture

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the one picture."""
        return Grid(1, self.towers[0].side, self.towers[0].side)

    @property
    def action_dim(self) -> int:
        """Numbers in an action, and tokens of an answer."""
        return len(self.bounds.low)


def read_config(folder: CheckpointFolder, deployment: Deployment) -> OpenVlaConfig:
    """Read the configuration of a checkpoint.

    Args:
        folder: The checkpoint that is read.
        deployment: How the model will be used; one view, and nothing but BOS before it.

    Raises:
        CheckpointError: A file or field is missing or wrong, or asks for what is not known here.
    """
    if head_steps(folder, "action_head"):
        raise CheckpointError(
            f"{folder.name}: expected no action head beside an OpenVLA model, found one: this is OpenVLA-OFT; read it "
            "as openvla_oft."
        )
    model = prismatic.read_prismatic(folder, causal=True)
    if deployment.views != 1 or deployment.before not in {(), (model.bos_id,)} or deployment.between:
        raise CheckpointError(
            f"openvla: expected 1 view with BOS ({model.bos_id}) before it, found {deployment.views} views, "
            f"{list(deployment.before)} before and {list(deployment.between)} between them."
        )
    bounds = read_data_set(folder, deployment.statistics_key).bounds("action", "q01", "q99")
    side = model.towers[0].side
    items = lay_out_prompt((model.bos_id,), [grid_items(side, side, newline=False)], ())
    return OpenVlaConfig(
        model.towers,
        model.text,
        PromptLayout(items, deployment.max_text_tokens),
        ActionTokens(model.action_end, model.action_edges),
        bounds,
        model.pad_id,
        _picture(folder, deployment, model.towers[0].image_size),
    )


def _picture(folder: CheckpointFolder, deployment: Deployment, side: int) -> SquarePicture:
    """Return how pictures are stretched and cropped; only where the embodiment, or the folder's name, says a crop."""
    crop = deployment.crop
    if crop is None:
        crop = EVALUATED if AUGMENTED in folder.name else 1.0
    return SquarePicture(
        deployment.image_size or (side, side), side, crop, prismatic.resample(folder), rounds_each_side=True
    )


def key_rules(config: OpenVlaConfig) -> KeyRules:
    """Return how stored weights come to our names."""
    rules = KeyRules(
        rename=((r"^language_model\.model\.", "decoder."), (r"^language_model\.lm_head\.", "lm_head.")),
        ties={"lm_head.weight": "decoder.embed_tokens.weight"} if config.text.is_tied else {},
    )
    return prismatic.key_rules(config.towers, rules)


class OpenVla(SquareVision, AutoregressiveModel):
    """The OpenVLA model."""

    def __init__(self, config: OpenVlaConfig) -> None:
        super().__init__(config.text.decoder, config.prompt_layout)
        self.config = config
        self.vision_backbone = VisionBackbone(config.towers)
        self.projector = vision_projector(config.towers, config.text.decoder.width)

    @property
    def towers(self) -> tuple[VisionTransformer, ...]:
        """The towers, in the order of their channels."""
        return self.vision_backbone.towers

    @property
    def picture(self) -> SquarePicture:
        """How the camera's picture becomes what the towers take."""
        return self.config.picture

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the picture."""
        return self.config.grid

    @property
    def action_dim(self) -> int:
        """Numbers in an action, and tokens of an answer."""
        return self.config.action_dim

    @property
    def token_values(self) -> NDArray[np.float32]:
        """Centre of the bin of each token, float32 ``(vocab_size,)``; see :meth:`ActionTokens.normalised`."""
        return self.config.tokens.normalised(np.arange(self.config.text.decoder.vocab_size)).astype(
            np.float32
        )

    def visual_tokens(self, images: Tensor) -> Tensor:
        """uint8 ``(batch, 1, height, width, 3)`` -> tower features ``(batch, visual, vision_width)``."""
        features: Tensor = self.vision_backbone(self.fit(images.float().flatten(0, 1)))
        return features.reshape(images.shape[0], -1, features.shape[-1])

    def embed_visual(self, tower_tokens: Tensor) -> Tensor:
        """Project tower features ``(batch, alive, vision_width)`` to ``(batch, alive, width)``."""
        embedded: Tensor = self.projector(tower_tokens)
        return embedded


def build(config: OpenVlaConfig) -> OpenVla:
    """Return the model without its weights, on the meta device."""
    with torch.device("meta"):
        return OpenVla(config)
