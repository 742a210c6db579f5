"""What all families share that answer in text: one decoder with a head, a prompt with images in it, generation.

A family adds its towers and how their features become visual tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from saccade.export.families.base import StepKind
from saccade.export.families.plain_vision import PlainVision
from saccade.export.families.prompt_layout import NEWLINE, PromptLayout
from saccade.export.families.sequence import SequenceLayout
from saccade.export.models.decoder import Decoder, DecoderConfig
from saccade.export.models.vision_tower import VisionTower
from saccade.policies.base import Grid


class SequenceInputs(NamedTuple):
    """What goes with the tokens of a sequence.

    Args:
        mask: bool ``(batch, tokens)``, False at padding.
        positions: Rotary positions, int64 ``(batch, tokens)``, or ``(batch, 3, tokens)`` for time, row and column.
        order: int64 ``(batch, tokens)``: a token sees those whose order is not higher than its own.
    """

    mask: Tensor
    positions: Tensor
    order: Tensor


RunDecoder = Callable[[Tensor, SequenceInputs], Tensor]
"""Runs a decoder as :meth:`GeneratingModel.run` does: ``(batch, tokens, width)`` to final states, same shape."""


class GeneratingModel(PlainVision, nn.Module, ABC):
    """Decoder, head and the layout of the prompt; a family adds towers and what makes visual tokens of their features.

    Args:
        decoder: Switches of the decoder, causal.
        prompt_layout: The prompt up to the user's text.
        has_newline: The model has a learned line break.

    Attributes:
        projector: Brings one visual token from the towers to the decoder's width.
    """

    step_kind: ClassVar[StepKind] = StepKind.PROMPT
    projector: nn.Module

    def __init__(
        self, decoder: DecoderConfig, prompt_layout: PromptLayout, *, has_newline: bool = False
    ) -> None:
        super().__init__()
        self.prompt_layout = prompt_layout
        self.decoder = Decoder(decoder)
        self.lm_head = nn.Linear(decoder.width, decoder.vocab_size, bias=False)
        if has_newline:
            self.image_newline = nn.Parameter(torch.zeros(decoder.width))

    @property
    @abstractmethod
    def towers(self) -> tuple[VisionTower, ...]:
        """The vision towers."""

    @property
    @abstractmethod
    def grid(self) -> Grid:
        """How visual tokens tile the pictures."""

    @property
    def projectors(self) -> tuple[nn.Module, ...]:
        """What brings one visual token from the towers to the decoder's width."""
        return (self.projector,)

    @abstractmethod
    def visual_tokens(self, images: Tensor) -> Tensor:
        """uint8 ``(batch, pictures, height, width, 3)`` -> tower features ``(batch, visual, vision_width)``."""

    @abstractmethod
    def embed_visual(self, tower_tokens: Tensor) -> Tensor:
        """Project tower features ``(batch, alive, vision_width)`` to ``(batch, alive, width)``."""

    def embed_deep(self, deep: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return what the first decoder layers add to the visual tokens that they give, one tensor for each layer.

        Args:
            deep: Features of the tower's ``deep_blocks``, ``(batch, alive, vision_width)`` each; most have none.

        Returns:
            What is added, ``(batch, alive, width)`` each.
        """
        return deep

    @property
    def layout(self) -> SequenceLayout:
        """The sequence in memory with every visual token."""
        return SequenceLayout(self.prompt_layout.segments)

    @property
    def first_position(self) -> int:
        """Rotary position of the first token of the question; those that follow count up from it."""
        return len(self.prompt_layout.items)

    def embed(self, visual: Tensor, token_ids: Tensor) -> Tensor:
        """Lay out the decoder's input.

        Args:
            visual: Visual tokens that are alive, ``(batch, alive, width)``.
            token_ids: The user's text, int64 ``(batch, max_text_tokens)``, padded on the right.

        Returns:
            Embeddings of the sequence, ``(batch, tokens, width)``.
        """
        fixed = self._fixed(visual)
        return torch.cat(
            [fixed.expand(visual.shape[0], -1, -1), visual, self.decoder.embed_tokens(token_ids)], dim=1
        )

    def sequence_inputs(self, text_lengths: Tensor) -> SequenceInputs:
        """Return mask, positions and order for texts of int64 ``(batch,)`` valid tokens."""
        order = torch.tensor(self.prompt_layout.order, device=text_lengths.device).expand(
            len(text_lengths), -1
        )
        mask = order < len(self.prompt_layout.items) + text_lengths[:, None]
        return SequenceInputs(mask, order * mask, order)

    def run(self, embeddings: Tensor, inputs: SequenceInputs) -> Tensor:
        """Run the whole decoder: ``(batch, tokens, width)`` to final states of the same shape."""
        return self.decoder(embeddings, inputs.mask, inputs.positions, inputs.order)

    def look(self, images: Tensor) -> tuple[Tensor, RunDecoder]:
        """Run the towers on uint8 ``(batch, pictures, height, width, 3)``.

        Returns:
            Visual tokens ``(batch, visual, width)``, and what runs the decoder on a sequence that has all of them.
        """
        return self.embed_visual(self.visual_tokens(images)), self.run

    def on_the_way(self, images: Tensor) -> dict[str, Tensor]:
        """Return what published classes have too on the way to the visual tokens, by name.

        Args:
            images: uint8 ``(pictures, height, width, 3)``, RGB.

        Returns:
            ``pictures``, normalised pixels of the same shape, and ``vision features``, ``(patches, vision_width)``;
            nothing where patches are merged in an order of the family's own.
        """
        del images
        return {}

    def logits(self, states: Tensor) -> Tensor:
        """Final states ``(..., width)`` to float32 logits ``(..., vocab_size)``."""
        scores: Tensor = self.lm_head(states)
        return scores.float()

    def _fixed(self, like: Tensor) -> Tensor:
        """Embeddings of the fixed tokens, ``(1, fixed, width)``."""
        ids = torch.tensor(self.prompt_layout.fixed, dtype=torch.long, device=like.device)
        embedded: Tensor = self.decoder.embed_tokens(ids.clamp(min=0))
        if NEWLINE in self.prompt_layout.fixed:
            embedded = torch.where((ids == NEWLINE).unsqueeze(1), self.image_newline, embedded)
        return embedded.unsqueeze(0)


def generate(
    model: GeneratingModel,
    visual: Tensor,
    token_ids: Tensor,
    lengths: Tensor,
    new_tokens: int,
    *,
    run: RunDecoder | None = None,
) -> Tensor:
    """Generate greedily without a cache, every step from the start: slow, for checks of one robot.

    Args:
        model: Model that answers.
        visual: Visual tokens, ``(1, visual, width)``.
        token_ids: int64 ``(1, max_text_tokens)``; the text and what is generated must fit.
        lengths: Number of valid tokens of the text, int64 ``(1,)``.
        new_tokens: Number of tokens to generate.
        run: Runs the decoder where that takes more than embeddings; None = as the model does.

    Returns:
        The generated tokens, int64 ``(1, new_tokens)``.
    """
    ids, lengths, found = token_ids.clone(), lengths.clone(), []
    start = model.layout.span("text").start
    for _ in range(new_tokens):
        states = (run or model.run)(model.embed(visual, ids), model.sequence_inputs(lengths))
        place = start + int(lengths) - 1
        token = model.logits(states[:, place]).argmax(dim=-1)
        found.append(token)
        ids[:, int(lengths)] = token
        lengths += 1
    return torch.stack(found, dim=1)
