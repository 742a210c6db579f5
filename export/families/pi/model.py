"""What π0 and π0.5 share: PaliGemma as the prefix, a smaller Gemma as the expert.

prefix: [visual: views * patches] [prompt, padded on its right]       every valid token sees every valid token
suffix: [state (π0)] [actions]
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saccade.export.families.flow_family import FlowFamily
from saccade.export.families.pi.config import PiConfig
from saccade.export.models.decoder import Decoder
from saccade.export.models.expert import Expert, ExpertLayer, expert_norm
from saccade.export.models.letterbox import Letterbox
from saccade.export.models.vision_transformer import VisionTransformer


class PiModel(FlowFamily):
    """Tower, projector, prefix decoder and expert of π0 or π0.5.

    Args:
        config: Configuration of the model.
        adaptive: Time modulates the expert's norms.
        suffix_order: Order of each suffix token, the state first if it is one: a token sees those whose order is not
            higher than its own.
    """

    def __init__(self, config: PiConfig, *, adaptive: bool, suffix_order: tuple[int, ...]) -> None:
        expert = config.expert
        super().__init__(
            config,
            decoder=Decoder(config.prefix),
            expert=Expert(
                [ExpertLayer(expert, adaptive=adaptive) for _ in range(expert.layers)],
                expert_norm(expert, adaptive=adaptive),
            ),
            suffix_order=suffix_order,
            vision=VisionTransformer(config.tower),
            projector=nn.Linear(config.tower.width, config.prefix.width),
            letterbox=Letterbox(
                config.camera,
                config.tower.picture_size,
                is_centred=True,
                is_antialiased=config.is_antialiased,
            ),
        )
        self.config = config

    def embed_visual(self, tower_tokens: Tensor) -> Tensor:
        """Project tower features ``(batch, alive, vision_width)`` to ``(batch, alive, width)``, not scaled as text."""
        embedded: Tensor = self.projector(tower_tokens)
        return embedded

    def embed(self, visual: Tensor, token_ids: Tensor, state: Tensor | None = None) -> Tensor:
        """Lay out the prefix ``(batch, tokens, width)``: visual tokens ``(batch, alive, width)``, text with BOS."""
        return torch.cat([visual, self.embed_text(token_ids)], dim=1)
