"""What all families share that look, read, and draw actions out of noise: towers, the prefix, what the host gives.

    prefix: [visual: views * tokens] [text, padded on its right] [more ...]
    suffix: [lead ...] [actions]

The host lays mask and positions out over prefix and suffix: a suffix token's position is the number of valid tokens in
front of it. An absent camera is masked, not removed: positions are the running count of valid tokens, so it leaves no
trace.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from saccade.export.families.base import StepKind, Work
from saccade.export.families.flow import FlowConfig, FlowModel
from saccade.export.families.plain_vision import PlainVision
from saccade.export.families.sequence import TEXT, VISUAL, Sequence, SequenceLayout
from saccade.export.models.decoder import Decoder, DecoderConfig
from saccade.export.models.expert import Expert
from saccade.export.models.letterbox import Letterbox
from saccade.export.models.vision_transformer import VisionConfig, VisionTransformer
from saccade.policies.base import Grid


class SuffixInputs(NamedTuple):
    """What goes with the tokens of prefix and suffix.

    Args:
        mask: bool ``(batch, prefix)``, False at padding and at absent cameras.
        positions: Rotary positions of the prefix, int64 ``(batch, prefix)``.
        suffix_positions: Rotary positions of the suffix, int64 ``(batch, suffix)``.
    """

    mask: Tensor
    positions: Tensor
    suffix_positions: Tensor


class FlowFamilyConfig(Protocol):
    """What the configuration of a flow family must say."""

    @property
    def tower(self) -> VisionConfig:
        """The one tower."""
        ...

    @property
    def expert(self) -> DecoderConfig:
        """The expert's decoder switches."""
        ...

    @property
    def flow(self) -> FlowConfig:
        """How actions come out of noise; its ``action_dim`` is the model's width."""
        ...

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the views."""
        ...

    @property
    def segments(self) -> Mapping[str, int]:
        """The prefix: name to tokens, in order."""
        ...

    @property
    def state_dim(self) -> int:
        """Numbers of proprioception that the robot has."""
        ...

    @property
    def action_dim(self) -> int:
        """Numbers of an action that the robot has."""
        ...

    @property
    def camera(self) -> tuple[int, int]:
        """Height and width of the pictures as they come, pixels."""
        ...


class FlowFamily(PlainVision, FlowModel):
    """Tower, projector, prefix decoder, expert.

    Args:
        config: Configuration of the model.
        decoder: Decoder of the prefix.
        expert: Expert of the suffix, with as many layers as the decoder.
        suffix_order: Order of each suffix token, the state first if it is one: a token sees those whose order is not
            higher than its own.
        vision: Vision tower.
        projector: Brings one visual token from the tower to the decoder's width.
        letterbox: How pictures of a camera become what the tower takes.
    """

    step_kind: ClassVar[StepKind] = StepKind.FLOW
    host_inputs: tuple[str, ...] = (
        "images",
        "proprio",
        "token_ids",
        "attention_mask",
        "position_ids",
        "noise",
    )
    """Names of what a control step takes from the host, in order."""

    def __init__(
        self,
        config: FlowFamilyConfig,
        *,
        decoder: Decoder,
        expert: Expert,
        suffix_order: tuple[int, ...],
        vision: VisionTransformer,
        projector: nn.Module,
        letterbox: Letterbox,
    ) -> None:
        super().__init__(config.flow, decoder, expert, config.expert.width, suffix_order)
        self.sizes = config
        self.vision = vision
        self.projector = projector
        self.letterbox = letterbox

    @property
    def towers(self) -> tuple[VisionTransformer, ...]:
        """The one tower."""
        return (self.vision,)

    def fit(self, pixels: Tensor) -> Tensor:
        """Resize pictures to the tower's size, their aspect kept, black around them."""
        fitted: Tensor = self.letterbox(pixels)
        return fitted

    @property
    def layout(self) -> SequenceLayout:
        """The prefix in memory with every visual token."""
        return SequenceLayout(self.sizes.segments)

    @property
    def segments(self) -> Mapping[str, int]:
        """Prefix and suffix: what the host lays mask and positions out over."""
        lead = len(self.suffix_order) - self.flow.chunk
        return {**self.sizes.segments, **({"state": lead} if lead else {}), "action": self.flow.chunk}

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the views."""
        return self.sizes.grid

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pictures as they come, pixels."""
        return self.sizes.camera

    @property
    def action_shape(self) -> tuple[int, int]:
        """Actions in a chunk, and numbers of an action that the robot has."""
        return self.flow.chunk, self.sizes.action_dim

    @property
    def noise_dim(self) -> int:
        """Numbers in an action, padding to the model's width included."""
        return self.flow.action_dim

    @property
    def keeps_patches(self) -> bool:
        """Whether visual tokens are the tower's patches, one for one."""
        return self.sizes.grid.per_view == self.sizes.tower.tokens

    @property
    def views_are_pictures(self) -> bool:
        """Whether each view's tokens come from the patches of one picture alone: always, pooled or not."""
        return True

    @property
    def fit_macs(self) -> int:
        """Multiply-accumulates of letterboxing all pictures."""
        return self.grid.views * self.letterbox.macs

    @property
    def projectors(self) -> tuple[nn.Module, ...]:
        """What brings one visual token from the tower to the decoder's width."""
        return (self.projector,)

    @property
    def state_values(self) -> Work:
        """What embedding the robot's state takes; columns of the weight that would meet zeros are cut off."""
        part = self.state_part
        if part is None:
            return Work(0, 0)
        macs = self.sizes.state_dim * part.out_features
        return Work(macs, macs + part.out_features)

    def arrange_signal(self, signal: Tensor) -> Tensor:
        """Average ``(batch, patches, channels)`` to ``(batch, visual, channels)``: over each visual token's square."""
        if self.keeps_patches:
            return signal
        grid = self.sizes.grid
        side = math.isqrt(self.sizes.tower.tokens // grid.per_view)
        squares = signal.unflatten(1, (-1, grid.rows, side, grid.columns, side))  # of all views, or one
        return squares.mean(dim=(3, 5)).flatten(1, 3)

    def visual_tokens(self, images: Tensor) -> Tensor:
        """uint8 ``(batch, views, height, width, 3)`` -> tower features ``(batch, visual, vision_width)``."""
        features = self.vision.encode_pixels(self.fit(images.float().flatten(0, 1)))
        return features.reshape(images.shape[0], -1, features.shape[-1])

    @abstractmethod
    def embed_visual(self, tower_tokens: Tensor) -> Tensor:
        """Project tower features ``(batch, alive, vision_width)`` to ``(batch, alive, width)``."""

    @abstractmethod
    def embed(self, visual: Tensor, token_ids: Tensor, state: Tensor | None) -> Tensor:
        """Lay out the prefix.

        Args:
            visual: Visual tokens that are alive, ``(batch, alive, width)``.
            token_ids: Text of the prompt, int64 ``(batch, max_text_tokens)``, padded on the right.
            state: Normalised state of the robot, float32 ``(batch, state_dim)``; None where it is text.

        Returns:
            Embeddings of the prefix, ``(batch, tokens, width)``.
        """

    @property
    @abstractmethod
    def action_parts(self) -> tuple[nn.Module, ...]:
        """What runs for each action in each Euler step, beside the expert."""

    @property
    @abstractmethod
    def action_embedding(self) -> Work:
        """What embedding one noisy action takes in an Euler step, once time is folded into constants."""

    @property
    def state_part(self) -> nn.Linear | None:
        """What embeds the robot's state; None where it is text."""
        return None

    def embed_text(self, token_ids: Tensor) -> Tensor:
        """Int64 ``(batch, text)`` -> ``(batch, text, width)``, scaled as Gemma scales it."""
        text: Tensor = self.decoder.embed_tokens(token_ids) * self.text_scale
        return text

    @property
    def text_scale(self) -> float:
        """What text embeddings are multiplied by."""
        return float(self.decoder.config.width**0.5)

    def prefix_order(self, like: Tensor) -> Tensor | None:
        """Return the order of prefix tokens, int64 ``(batch, tokens)``: none sees a higher one; None = all see all."""
        return None

    def embed_lead(self, state: Tensor | None) -> Tensor | None:
        """Return the suffix tokens in front of the actions, ``(batch, lead, expert_width)``; None = there are none."""
        return None

    def read_actions(self, x: Tensor) -> Tensor:
        """Drop what the robot does not have: (batch, chunk, action width) -> (batch, chunk, action_dim)."""
        return x[..., : self.sizes.action_dim]

    def sequence_inputs(self, text_lengths: Tensor, views: Tensor) -> SuffixInputs:
        """Return mask and positions of prefix and suffix.

        Args:
            text_lengths: Number of valid tokens of the prompt, int64 ``(batch,)``.
            views: bool ``(batch, views)``, False where a camera is absent.
        """
        valid = []
        for name, tokens in self.sizes.segments.items():
            if name == VISUAL:
                valid.append(views.repeat_interleave(self.grid.per_view, dim=1))
            else:
                index = torch.arange(tokens, device=text_lengths.device)
                lengths = text_lengths if name == TEXT else torch.full_like(text_lengths, tokens)
                valid.append(index < lengths[:, None])
        mask = torch.cat(valid, dim=1)
        positions = (mask.to(torch.int64).cumsum(dim=1) - 1) * mask
        suffix = mask.sum(dim=1, keepdim=True) + torch.arange(len(self.suffix_order), device=mask.device)
        return SuffixInputs(mask, positions, suffix)

    def perceive(
        self,
        images: Tensor,
        token_ids: Tensor,
        mask: Tensor,
        positions: Tensor,
        state: Tensor | None = None,
    ) -> Sequence:
        """Return the prefix at the decoder's entry, with every visual token.

        Args:
            images: uint8 ``(batch, views, height, width, 3)``, RGB.
            token_ids: Text of the prompt, int64 ``(batch, max_text_tokens)``.
            mask: bool ``(batch, prefix)``, False at padding and at absent cameras.
            positions: Rotary positions of the prefix, int64 ``(batch, prefix)``.
            state: Normalised state of the robot, float32 ``(batch, state_dim)``; None where it is text.
        """
        embeddings = self.embed(self.embed_visual(self.visual_tokens(images)), token_ids, state)
        return Sequence(embeddings, mask, positions, self.layout, self.prefix_order(mask))

    def forward(
        self,
        images: Tensor,
        state: Tensor | None,
        token_ids: Tensor,
        mask: Tensor,
        positions: Tensor,
        suffix_positions: Tensor,
        noise: Tensor,
    ) -> Tensor:
        """Run one control step with every visual token.

        Args:
            images: uint8 ``(batch, views, height, width, 3)``, RGB.
            state: Normalised state of the robot, float32 ``(batch, state_dim)``; None where it is text.
            token_ids: Text of the prompt, int64 ``(batch, max_text_tokens)``.
            mask: bool ``(batch, prefix)``, False at padding and at absent cameras, from :meth:`sequence_inputs`.
            positions: Rotary positions of the prefix, int64 ``(batch, prefix)``, from :meth:`sequence_inputs`.
            suffix_positions: Rotary positions of the suffix, int64 ``(batch, suffix)``, from :meth:`sequence_inputs`.
            noise: float32 ``(batch, chunk, action width)``, standard normal.

        Returns:
            float32 ``(batch, chunk, action_dim)``, normalised actions.
        """
        memory = self.remember(self.perceive(images, token_ids, mask, positions, state))
        observed = self.observe(memory, suffix_positions, self.embed_lead(state))
        return self.read_actions(self.sample(noise, observed))


def as_state(weight: nn.Linear, state: Tensor) -> Tensor:
    """Embed a state that the model pads with zeros: ``(batch, state_dim)`` -> ``(batch, 1, width)``."""
    narrow = weight.weight[:, : state.shape[1]]  # The others would meet zeros.
    return nn.functional.linear(state, narrow, weight.bias).unsqueeze(1)
