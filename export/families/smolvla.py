"""SmolVLA: a small vision-language model sees and reads, an expert draws a chunk of actions out of noise.

    prefix: [visual: views * tokens] [task, newline, padded on the right] [state]
    suffix: [actions]

Visual tokens and text see each other; the state sees them and itself. Every second expert layer attends to prefix and
actions, actions causal among themselves; the others attend to the prefix alone, through projections of its rotated keys
and of its values that are computed once for all denoising steps.

Source:
    SmolVLA (2506.01844) as in lerobot 0.6.1's ``SmolVLAPolicy``. Pictures are resized with their aspect kept and padded
    with black at the left and the top. State and actions are normalised, the state padded with zeros to the model's
    width; the task ends in a newline. An absent camera is masked, not removed: positions are the running count of valid
    tokens, so it leaves no trace.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.export.families.flow import FlowModel, LayerMemory, suffix_positions
from saccade.export.families.sequence import Sequence, SequenceLayout
from saccade.export.families.smolvla_checkpoint import MODEL_TYPE, SmolVlaConfig, key_rules, read_config
from saccade.export.models.cross_expert import CrossLayer
from saccade.export.models.decoder import Decoder, RmsNorm, Rotary
from saccade.export.models.expert import ActionTimeMlp, Expert, ExpertLayer, LayerContext
from saccade.export.models.pixel_shuffle import PixelShuffleTower
from saccade.policies.base import Grid

__all__ = ["MODEL_TYPE", "SmolVla", "SmolVlaConfig", "SmolVlaInputs", "build", "key_rules", "read_config"]


class SmolVlaInputs(NamedTuple):
    """What goes with the tokens of prefix and suffix.

    Args:
        mask: bool ``(batch, prefix)``, False at padding and at absent cameras.
        positions: int64 ``(batch, prefix)``.
        suffix_positions: int64 ``(batch, chunk)``.
    """

    mask: Tensor
    positions: Tensor
    suffix_positions: Tensor


class SmolVla(FlowModel):
    """The model."""

    def __init__(self, config: SmolVlaConfig) -> None:
        decoder, expert, chunk = config.decoder, config.expert, config.flow.chunk
        super().__init__(
            config.flow,
            Decoder(decoder),
            Expert(
                [
                    (ExpertLayer if config.is_joint(layer) else CrossLayer)(expert)
                    for layer in range(expert.layers)
                ],
                RmsNorm(expert.width, expert.norm_eps),
            ),
            expert.width,
            suffix_order=tuple(range(chunk)),
        )
        self.config = config
        self.vision = PixelShuffleTower(config.tower, config.shuffle)
        self.projector = nn.Linear(config.tower.width * config.shuffle**2, decoder.width, bias=False)
        self.state_proj = nn.Linear(config.state_width, decoder.width)
        self.action_time = ActionTimeMlp(config.flow.action_dim, expert.width)

    @property
    def towers(self) -> tuple[PixelShuffleTower, ...]:
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
        """No: a visual token is a square of patches."""
        return False

    def arrange(self, features: Tensor) -> Tensor:
        """Return the features: the tower ends in visual tokens."""
        return features

    def visual_tokens(self, images: Tensor) -> Tensor:
        """uint8 ``(batch, views, height, width, 3)`` -> tower features ``(batch, visual, vision_width)``."""
        features = self.vision.encode_pixels(images.float().flatten(0, 1))
        return features.reshape(images.shape[0], -1, features.shape[-1])

    def embed_visual(self, tower_tokens: Tensor) -> Tensor:
        """``(batch, alive, vision_width)`` -> ``(batch, alive, width)``, scaled as text is."""
        embedded: Tensor = self.projector(tower_tokens) * self._scale
        return embedded

    def embed(self, visual: Tensor, token_ids: Tensor, state: Tensor) -> Tensor:
        """Lay out the prefix.

        Args:
            visual: ``(batch, alive, width)``.
            token_ids: int64 ``(batch, max_text_tokens)``, padded on the right.
            state: float32 ``(batch, state_dim)``, normalised.

        Returns:
            ``(batch, tokens, width)``.
        """
        text = self.decoder.embed_tokens(token_ids) * self._scale
        weight = self.state_proj.weight[:, : self.config.state_dim]  # The others would meet zeros.
        return torch.cat([visual, text, F.linear(state, weight, self.state_proj.bias).unsqueeze(1)], dim=1)

    def sequence_inputs(self, text_lengths: Tensor, views: Tensor) -> SmolVlaInputs:
        """Return masks and positions.

        Args:
            text_lengths: Valid tokens of the prompt, int64 ``(batch,)``.
            views: bool ``(batch, views)``, False where a camera is absent.
        """
        index = torch.arange(self.config.max_text_tokens, device=text_lengths.device)
        seen = views.repeat_interleave(self.grid.per_view, dim=1)
        text = index < text_lengths[:, None]
        mask = torch.cat([seen, text, torch.ones_like(text[:, :1])], dim=1)
        positions = (mask.to(torch.int64).cumsum(dim=1) - 1) * mask
        return SmolVlaInputs(mask, positions, suffix_positions(mask, self.flow.chunk))

    def perceive(
        self, images: Tensor, token_ids: Tensor, state: Tensor, mask: Tensor, positions: Tensor
    ) -> Sequence:
        """Return the prefix at the decoder's entry; arguments as :meth:`forward` takes them."""
        embeddings = self.embed(self.embed_visual(self.visual_tokens(images)), token_ids, state)
        return Sequence(embeddings, mask, positions, self.layout, self.order(mask))

    def order(self, like: Tensor) -> Tensor:
        """Return what a token's sight is limited by, int64 ``(batch, tokens)``: pictures and text 0, the state 1."""
        order = [int(name == "state") for name, tokens in self.layout.segments.items() for _ in range(tokens)]
        return torch.tensor(order, device=like.device).expand(like.shape[0], -1)

    def fold_time(self, embeddings: Tensor) -> Tensor:
        """Return what each step's time adds inside the MLP that embeds actions, ``(steps, expert_width)``."""
        return self.action_time.fold(embeddings)

    def embed_actions(self, x: Tensor, time: Tensor) -> Tensor:
        """(batch, chunk, action width) -> (batch, chunk, expert_width)."""
        tokens: Tensor = self.action_time(x, time)
        return tokens

    def context(self, index: int, memory: LayerMemory, bias: Tensor, rotary: Rotary) -> LayerContext:
        """Return what expert layer ``index`` makes of its prefix layer.

        A layer that attends to the prefix alone projects what is there, and counts its queries' positions from 0.
        """
        layer = self.expert.layers[index]
        if not isinstance(layer, CrossLayer):
            return super().context(index, memory, bias, rotary)
        key, value = layer.self_attn.project(memory.key, memory.value)
        from_zero = torch.arange(self.flow.chunk, device=key.device).unsqueeze(0)
        seen = bias[:, :, :1, : memory.mask.shape[1]]  # All rows see the same of the prefix.
        return LayerContext(key, value, seen, self.decoder.rotary(from_zero))

    def read_actions(self, x: Tensor) -> Tensor:
        """Drop what the robot does not have: (batch, chunk, action width) -> (batch, chunk, action_dim)."""
        return x[..., : self.config.action_dim]

    def forward(
        self,
        images: Tensor,
        state: Tensor,
        token_ids: Tensor,
        mask: Tensor,
        positions: Tensor,
        suffix_positions: Tensor,
        noise: Tensor,
    ) -> Tensor:
        """Run one control step with every visual token.

        Args:
            images: uint8 ``(batch, views, height, width, 3)``, RGB.
            state: float32 ``(batch, state_dim)``, normalised.
            token_ids: int64 ``(batch, max_text_tokens)``.
            mask: As :meth:`sequence_inputs` gives it.
            positions: The same.
            suffix_positions: The same.
            noise: float32 ``(batch, chunk, action width)``, standard normal.

        Returns:
            float32 ``(batch, chunk, action_dim)``, normalised actions.
        """
        memory = self.remember(self.perceive(images, token_ids, state, mask, positions))
        return self.read_actions(self.sample(noise, self.observe(memory, suffix_positions)))

    @property
    def _scale(self) -> float:
        return float(self.config.decoder.width**0.5)


def build(config: SmolVlaConfig) -> SmolVla:
    """Return the model without its weights, on the meta device."""
    with torch.device("meta"):
        return SmolVla(config)
