"""What π0 and π0.5 share: PaliGemma as the prefix, a smaller Gemma as the expert.

    prefix: [visual: views * patches] [prompt, padded on its right]       every valid token sees every valid token
    suffix: [state (π0)] [actions]

An absent camera is masked, not removed: positions are the running count of valid tokens, so it leaves no trace.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from saccade.export.families.flow import FlowModel, suffix_positions
from saccade.export.families.pi_checkpoint import PiConfig
from saccade.export.families.sequence import Sequence, SequenceLayout
from saccade.export.models.decoder import Decoder
from saccade.export.models.expert import Expert, ExpertLayer, expert_norm
from saccade.export.models.vision_transformer import VisionTransformer
from saccade.policies.base import Grid


class PiInputs(NamedTuple):
    """What goes with the tokens of prefix and suffix.

    Args:
        mask: bool ``(batch, prefix)``, False at padding and at absent cameras.
        positions: int64 ``(batch, prefix)``.
        suffix_positions: int64 ``(batch, suffix)``.
    """

    mask: Tensor
    positions: Tensor
    suffix_positions: Tensor


class PiModel(FlowModel):
    """Tower, projector, prefix decoder, expert.

    Args:
        config: The configuration.
        adaptive: Time modulates the expert's norms.
        suffix_order: As in :class:`FlowModel`.
    """

    def __init__(self, config: PiConfig, *, adaptive: bool, suffix_order: tuple[int, ...]) -> None:
        expert = config.expert
        super().__init__(
            config.flow,
            Decoder(config.prefix),
            Expert(
                [ExpertLayer(expert, adaptive=adaptive) for _ in range(expert.layers)],
                expert_norm(expert, adaptive=adaptive),
            ),
            expert.width,
            suffix_order,
        )
        self.config = config
        self.vision = VisionTransformer(config.tower)
        self.projector = nn.Linear(config.tower.width, config.prefix.width)

    @property
    def towers(self) -> tuple[VisionTransformer, ...]:
        """The one tower."""
        return (self.vision,)

    @property
    def layout(self) -> SequenceLayout:
        """The prefix in memory with every visual token."""
        return SequenceLayout(self.config.segments)

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the views."""
        return self.config.grid

    @property
    def keeps_patches(self) -> bool:
        """They do."""
        return True

    def arrange(self, features: Tensor) -> Tensor:
        """Return the features: visual tokens are patches."""
        return features

    def visual_tokens(self, images: Tensor) -> Tensor:
        """uint8 ``(batch, views, height, width, 3)`` -> tower features ``(batch, visual, vision_width)``."""
        features = self.vision.encode_pixels(images.float().flatten(0, 1))
        return features.reshape(images.shape[0], -1, features.shape[-1])

    def embed_visual(self, tower_tokens: Tensor) -> Tensor:
        """``(batch, alive, vision_width)`` -> ``(batch, alive, width)``; not scaled, unlike text."""
        embedded: Tensor = self.projector(tower_tokens)
        return embedded

    def embed(self, visual: Tensor, token_ids: Tensor) -> Tensor:
        """Lay out the prefix.

        Args:
            visual: ``(batch, alive, width)``.
            token_ids: int64 ``(batch, max_text_tokens)``, BOS first, padded on the right.

        Returns:
            ``(batch, tokens, width)``.
        """
        text = self.decoder.embed_tokens(token_ids) * self.config.prefix.width**0.5
        return torch.cat([visual, text], dim=1)

    def sequence_inputs(self, text_lengths: Tensor, views: Tensor) -> PiInputs:
        """Return masks and positions.

        Args:
            text_lengths: Valid tokens of the prompt, int64 ``(batch,)``.
            views: bool ``(batch, views)``, False where a camera is absent.
        """
        index = torch.arange(self.config.max_text_tokens, device=text_lengths.device)
        text = index < text_lengths[:, None]
        mask = torch.cat([views.repeat_interleave(self.grid.per_view, dim=1), text], dim=1)
        positions = (mask.to(torch.int64).cumsum(dim=1) - 1) * mask
        return PiInputs(mask, positions, suffix_positions(mask, len(self.suffix_order)))

    def perceive(self, images: Tensor, token_ids: Tensor, mask: Tensor, positions: Tensor) -> Sequence:
        """Return the prefix at the decoder's entry; ``images`` as in :meth:`visual_tokens`, the rest as above."""
        embeddings = self.embed(self.embed_visual(self.visual_tokens(images)), token_ids)
        return Sequence(embeddings, mask, positions, self.layout)
