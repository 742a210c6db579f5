"""OpenVLA-OFT: one bidirectional pass from images, proprioception and instruction to a chunk of actions.

    [BOS] [visual: views * patches] [proprio] [text, padded on its right] [action placeholders] [</s>]

Action placeholders have zero embeddings: only their positions tell them apart. Actions are read from the final
states that start at the last prompt token, shifted by one as in next-token prediction.

Source:
    OpenVLA-OFT (2502.19645), moojink/openvla-oft 213c5ff. Deviation: the prompt is padded, with an explicit mask
    and explicit positions, so that every shape is static; padding changes no valid token. The prompt is what the
    embodiment's template says; of published checkpoints the instruction goes into it in lower case. Pictures of another
    size are stretched as ``resize_image_for_policy`` does, without its detour through JPEG.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from saccade.export.families.base import StepKind, Work
from saccade.export.families.openvla_oft.config import OftConfig
from saccade.export.families.sequence import SequenceLayout
from saccade.export.families.square_vision import SquareVision
from saccade.export.loading import prismatic
from saccade.export.loading.key_rules import KeyRules
from saccade.export.models.action_head import ActionHead, MlpProjector
from saccade.export.models.decoder import Decoder
from saccade.export.models.square_picture import SquarePicture
from saccade.export.models.vision_backbone import VisionBackbone, vision_projector
from saccade.export.models.vision_transformer import VisionTransformer
from saccade.policies.base import Grid


@dataclass(frozen=True)
class OftOutputs:
    """Results of one pass, for training losses beside the action loss.

    Args:
        actions: Normalised actions, ``(batch, chunk, action_dim)``.
        hidden: Final states of the whole sequence, ``(batch, tokens, width)``; padding is meaningless.
        layout: Where the segments lie: ``layout.take(hidden, "visual")``.
        action_states: Final states that the actions were read from, ``(batch, chunk * action_dim, width)``.
    """

    actions: Tensor
    hidden: Tensor
    layout: SequenceLayout
    action_states: Tensor


class OpenVlaOft(SquareVision, nn.Module):
    """The OpenVLA-OFT model; parameter names are the published checkpoint's."""

    step_kind = StepKind.SINGLE_PASS

    def __init__(self, config: OftConfig) -> None:
        super().__init__()
        self.config = config
        width = config.decoder.width
        self.vision_backbone = VisionBackbone(config.towers)
        self.projector = vision_projector(config.towers, width)
        self.language_model = nn.ModuleDict(OrderedDict(model=Decoder(config.decoder)))
        self.action_head = ActionHead(width, config.action_dim, config.head_blocks)
        self.proprio_projector = MlpProjector(config.proprio_dim, width, width)

    @property
    def towers(self) -> tuple[VisionTransformer, ...]:
        """The vision towers, in the order of their channels."""
        return self.vision_backbone.towers

    @property
    def decoder(self) -> Decoder:
        """The language model without its head."""
        return cast(Decoder, self.language_model["model"])

    @property
    def layout(self) -> SequenceLayout:
        """The sequence with every visual token."""
        return SequenceLayout(self.config.segments)

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the views."""
        return self.config.grid

    @property
    def host_inputs(self) -> tuple[str, ...]:
        """Names of what a control step takes from the host, in order."""
        return ("images", "proprio", "token_ids", "attention_mask", "position_ids")

    @property
    def picture(self) -> SquarePicture:
        """How a camera's picture becomes what the towers take."""
        return self.config.picture

    @property
    def segments(self) -> Mapping[str, int]:
        """The whole sequence, name to tokens, in order."""
        return self.config.segments

    @property
    def action_shape(self) -> tuple[int, int]:
        """Actions in a chunk, and numbers in an action."""
        return self.config.chunk, self.config.action_dim

    @property
    def proprio_dim(self) -> int:
        """Numbers of proprioception."""
        return self.config.proprio_dim

    @property
    def noise_dim(self) -> int:
        """Numbers of noise for each action: 0, actions are regressed."""
        return 0

    def visual_tokens(self, images: Tensor) -> Tensor:
        """Run the vision towers alone; their output may be cached while the rest trains.

        Args:
            images: uint8 ``(batch, views, height, width, 3)``, RGB.

        Returns:
            ``(batch, visual tokens, vision_width)``, in (view, row, column) order.
        """
        # The cast comes first: TensorRT takes uint8 only where it enters the graph.
        tokens: Tensor = self.vision_backbone(self.fit(images.float().flatten(0, 1)))
        return tokens.reshape(images.shape[0], -1, tokens.shape[-1])

    @property
    def projectors(self) -> tuple[nn.Module, ...]:
        """What brings one visual token from the towers to the decoder's width."""
        return (self.projector,)

    @property
    def state_values(self) -> Work:
        """What embedding proprioception takes."""
        part = self.proprio_projector
        macs = sum(layer.weight.numel() for layer in part.modules() if isinstance(layer, nn.Linear))
        return Work(macs, sum(weight.numel() for weight in part.parameters()))

    @property
    def action_parts(self) -> tuple[nn.Module, ...]:
        """What runs once for each action of the chunk: the action head."""
        return (self.action_head,)

    def embed_visual(self, tower_tokens: Tensor) -> Tensor:
        """Project tower features ``(batch, visual tokens, vision_width)`` to ``(batch, visual tokens, width)``."""
        embedded: Tensor = self.projector(tower_tokens)
        return embedded

    def embed(self, visual: Tensor, proprio: Tensor, token_ids: Tensor) -> Tensor:
        """Lay out the decoder's input.

        Args:
            visual: Visual tokens from :meth:`embed_visual`, ``(batch, alive, width)``: all, or those that are alive.
            proprio: Normalised proprioception, float32 ``(batch, proprio_dim)``.
            token_ids: Text of the prompt, int64 ``(batch, max_text_tokens)``.

        Returns:
            Embeddings of the sequence, ``(batch, tokens, width)``.
        """
        batch, config, table = visual.shape[0], self.config, self.decoder.embed_tokens.weight
        placeholders = visual.new_zeros(batch, config.chunk * config.action_dim, config.decoder.width)
        parts = [
            table[config.bos_id].expand(batch, 1, -1),
            visual,
            self.proprio_projector(proprio).unsqueeze(1),
            self.decoder.embed_tokens(token_ids),
            placeholders,
            table[config.eos_id].expand(batch, 1, -1),
        ]
        return torch.cat(parts, dim=1)

    def embed_observation(self, images: Tensor, proprio: Tensor, token_ids: Tensor) -> Tensor:
        """Lay out the decoder's input with every visual token.

        Args:
            images: uint8 ``(batch, views, height, width, 3)``, RGB.
            proprio: Normalised proprioception, float32 ``(batch, proprio_dim)``.
            token_ids: Text of the prompt, int64 ``(batch, max_text_tokens)``.

        Returns:
            Embeddings of the sequence, ``(batch, tokens, width)``.
        """
        return self.embed(self.embed_visual(self.visual_tokens(images)), proprio, token_ids)

    def read_actions(self, action_states: Tensor) -> Tensor:
        """Final states ``(batch, chunk * action_dim, width)`` -> actions ``(batch, chunk, action_dim)``."""
        actions: Tensor = self.action_head(action_states)
        return actions

    def forward_from_tower(
        self,
        tower_tokens: Tensor,
        proprio: Tensor,
        token_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
    ) -> OftOutputs:
        """Run everything after the vision towers.

        Args:
            tower_tokens: Tower features from :meth:`visual_tokens`, ``(batch, visual tokens, vision_width)``.
            proprio: Normalised proprioception, float32 ``(batch, proprio_dim)``.
            token_ids: Text of the prompt, int64 ``(batch, max_text_tokens)``, padded on the right.
            attention_mask: bool ``(batch, tokens)``, True = valid; False only at padded text.
            position_ids: Rotary positions, int64 ``(batch, tokens)``.
        """
        embeddings = self.embed(self.embed_visual(tower_tokens), proprio, token_ids)
        hidden = self.decoder(embeddings, attention_mask, position_ids)
        states = self.layout.answer_states(hidden, attention_mask)
        return OftOutputs(self.read_actions(states), hidden, self.layout, states)

    def forward(
        self, images: Tensor, proprio: Tensor, token_ids: Tensor, attention_mask: Tensor, position_ids: Tensor
    ) -> Tensor:
        """Run one control step with every visual token.

        Args:
            images: uint8 ``(batch, views, height, width, 3)``, RGB.
            proprio: Normalised proprioception, float32 ``(batch, proprio_dim)``.
            token_ids: Text of the prompt, int64 ``(batch, max_text_tokens)``, padded on the right.
            attention_mask: bool ``(batch, tokens)``, True = valid; False only at padded text.
            position_ids: Rotary positions, int64 ``(batch, tokens)``.

        Returns:
            float ``(batch, chunk, action_dim)``, normalised actions.
        """
        tower_tokens = self.visual_tokens(images)
        return self.forward_from_tower(tower_tokens, proprio, token_ids, attention_mask, position_ids).actions

    def sequence_inputs(self, text_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return mask, bool, and positions, int64, ``(batch, tokens)`` each, for text lengths int64 ``(batch,)``."""
        return self.layout.host_inputs(text_lengths)


def build(config: OftConfig) -> OpenVlaOft:
    """Return the model without its weights, on the meta device."""
    with torch.device("meta"):
        return OpenVlaOft(config)


def key_rules(config: OftConfig) -> KeyRules:
    """Return the rules of OpenVLA's towers; the language model's head is passed over: the action head replaces it."""
    return prismatic.key_rules(config.towers, KeyRules(unused=(r"^language_model\.lm_head\.",)))


def initialise(model: OpenVlaOft, seed: int) -> OpenVlaOft:
    """Draw fresh weights for training from scratch: fan-in scaled, residual branches damped by depth."""
    generator = torch.Generator().manual_seed(seed)
    branches = {"attn.proj": "vision", "mlp.fc2": "vision", "o_proj": "text", "down_proj": "text"}
    layers = {"vision": model.config.towers[0].blocks, "text": model.config.decoder.layers}
    with torch.no_grad():
        for name, parameter in model.vision_backbone.named_parameters():
            if name.endswith(("pos_embed", "cls_token", "reg_token")):
                parameter.normal_(0.0, 0.02, generator=generator)
        for name, module in model.named_modules():
            if not isinstance(module, (nn.Linear, nn.Conv2d, nn.Embedding)):
                continue
            fan_in = module.weight[0].numel()
            depth = next((layers[kind] for suffix, kind in branches.items() if name.endswith(suffix)), None)
            std = fan_in**-0.5 / ((2 * depth) ** 0.5 if depth else 1.0)
            module.weight.normal_(0.0, std, generator=generator)
            if isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None:
                module.bias.zero_()
    return model
