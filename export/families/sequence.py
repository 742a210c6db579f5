"""Where each segment of a decoder sequence lies, before and after visual tokens were dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

VISUAL, TEXT, ACTION = "visual", "text", "action"


@dataclass(frozen=True)
class SequenceLayout:
    """The ordered segments of a sequence, all of fixed length; only ``text`` has padding, on its right.

    Args:
        segments: Name to number of tokens, in order; includes ``visual`` and ``text``, and ``action`` in a family whose
            actions come from one pass.
    """

    segments: Mapping[str, int]

    @property
    def tokens(self) -> int:
        """Length of the sequence."""
        return sum(self.segments.values())

    @property
    def visual(self) -> int:
        """Visual tokens of the sequence."""
        return self.segments[VISUAL]

    def span(self, name: str) -> slice:
        """Return the positions of segment ``name``."""
        start = 0
        for segment, tokens in self.segments.items():
            if segment == name:
                return slice(start, start + tokens)
            start += tokens
        raise KeyError(name)

    def host_inputs(self, text_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return mask and positions as the host makes them for prompts of ``text_lengths`` valid tokens.

        Args:
            text_lengths: int64 ``(batch,)``, each at least 1 and at most the text segment's length.

        Returns:
            attention_mask bool ``(batch, tokens)`` and position_ids int64 ``(batch, tokens)``: the running count
            of valid tokens minus one, 0 at padding.
        """
        text = self.span(TEXT)
        index = torch.arange(self.tokens, device=text_lengths.device)
        mask = ~((index >= text.start + text_lengths[:, None]) & (index < text.stop))
        return mask, (mask.cumsum(dim=1) - 1) * mask

    def with_visual(self, keep: int) -> SequenceLayout:
        """Return the layout after all but ``keep`` visual tokens were dropped."""
        return replace(self, segments={**self.segments, VISUAL: keep})

    def take(self, x: Tensor, name: str) -> Tensor:
        """Return segment ``name`` of ``(batch, tokens, ...)``."""
        return x[:, self.span(name)]

    def replace_visual(self, x: Tensor, visual: Tensor) -> Tensor:
        """Put ``(batch, keep, ...)`` in the place of the visual segment of ``(batch, tokens, ...)``."""
        span = self.span(VISUAL)
        return torch.cat([x[:, : span.start], visual, x[:, span.stop :]], dim=1)

    def add_visual(self, x: Tensor, visual: Tensor) -> Tensor:
        """Add ``(batch, visual, ...)`` to the visual segment of ``(batch, tokens, ...)``."""
        return self.replace_visual(x, self.take(x, VISUAL) + visual)

    def gather_visual(self, x: Tensor, kept: Tensor) -> Tensor:
        """Keep of ``(batch, tokens)`` only the visual tokens ``kept``, int64 ``(batch, keep)``, and all others."""
        return self.replace_visual(x, torch.gather(self.take(x, VISUAL), 1, kept))

    def last_text(self, attention_mask: Tensor) -> Tensor:
        """Return the position of the last valid text token, int64 ``(batch, 1)``."""
        valid = self.take(attention_mask, TEXT).to(torch.int64)
        start: int = self.span(TEXT).start
        return valid.sum(dim=1, keepdim=True) + (start - 1)

    def answer_states(self, x: Tensor, attention_mask: Tensor, *, token_axis: int = 1) -> Tensor:
        """Return the rows of ``x`` from which the answer is read: one for each action token, or one alone.

        As in next-token prediction they are shifted by one: the last prompt token, then every action
        placeholder but the last, if there are any.

        Args:
            x: Tensor ``(batch, ..., tokens, channels)`` with tokens at ``token_axis``; channels come last.
            attention_mask: bool ``(batch, tokens)``, True = valid.
            token_axis: Axis of the tokens in ``x``, 1 or 2.
        """
        index = self.last_text(attention_mask)
        index = index.reshape(-1, *([1] * (x.dim() - 1)))
        shape = [size if axis != token_axis else 1 for axis, size in enumerate(x.shape)]
        last = torch.gather(x, token_axis, index.expand(shape))
        if ACTION not in self.segments:
            return last
        action = self.span(ACTION)
        placeholders = x.narrow(token_axis, action.start, action.stop - action.start - 1)
        return torch.cat([last, placeholders], token_axis)


class Sequence(NamedTuple):
    """A decoder sequence at one layer.

    Args:
        hidden: Hidden states, ``(batch, tokens, width)``.
        mask: bool ``(batch, tokens)``, True = valid.
        positions: Rotary positions, int64 ``(batch, tokens)``, or ``(batch, axes, tokens)``.
        layout: Layout that says where the segments lie.
        order: int64 ``(batch, tokens)``: what causal attention compares; None = tokens stand as they lie.
    """

    hidden: Tensor
    mask: Tensor
    positions: Tensor
    layout: SequenceLayout
    order: Tensor | None = None

    @classmethod
    def entering(
        cls,
        layout: SequenceLayout,
        hidden: Tensor,
        inputs: tuple[Tensor, Tensor],
        alive: Tensor,
        order: Tensor | None = None,
    ) -> Sequence:
        """Return a sequence at the decoder's entry.

        Args:
            layout: Layout with every visual token.
            hidden: Hidden states of the tokens that are alive, ``(batch, alive tokens, width)``.
            inputs: Mask and positions of every token.
            alive: Indices of the visual tokens that are alive, int64 ``(batch, alive)``.
            order: int64 ``(batch, tokens)`` of every token: what causal attention compares; None = tokens stand as they
                lie.
        """
        whole = cls(hidden, *inputs, layout, order)
        if alive.shape[1] == layout.visual:
            return whole
        thin = layout.gather_visual
        return cls(
            hidden,
            thin(whole.mask, alive),
            whole._thin_positions(alive),
            layout.with_visual(alive.shape[1]),
            None if order is None else thin(order, alive),
        )

    def with_visual(self, hidden: Tensor, kept: Tensor) -> Sequence:
        """Replace the visual tokens by survivors.

        Args:
            hidden: Hidden states of the survivors, ``(batch, keep, width)``.
            kept: Indices of the survivors among the visual tokens, int64 ``(batch, keep)``; mask and positions stay
                theirs.
        """
        thin = self.layout.gather_visual
        return Sequence(
            self.layout.replace_visual(self.hidden, hidden),
            thin(self.mask, kept),
            self._thin_positions(kept),
            self.layout.with_visual(kept.shape[1]),
            None if self.order is None else thin(self.order, kept),
        )

    def add_visual(self, x: Tensor) -> Sequence:
        """Add ``(batch, alive, width)`` to the hidden states of the visual tokens, all of which are alive."""
        return self._replace(hidden=self.layout.add_visual(self.hidden, x))

    def without_visual(self) -> Sequence:
        """Return the sequence with no visual token left."""
        nothing = torch.zeros(self.hidden.shape[0], 0, dtype=torch.int64, device=self.hidden.device)
        return self.with_visual(self.hidden[:, :0], nothing)

    def _thin_positions(self, kept: Tensor) -> Tensor:
        """Positions of the visual tokens ``kept`` and of all others, every axis alike."""
        thin = self.layout.gather_visual
        if self.positions.dim() == 2:
            return thin(self.positions, kept)
        return torch.stack([thin(axis, kept) for axis in self.positions.unbind(1)], dim=1)
