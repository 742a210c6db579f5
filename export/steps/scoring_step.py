"""Scoring the views: how much of the instruction's attention each camera gets, as one exportable module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saccade.export.families.base import SinglePassFamily
from saccade.export.families.sequence import Sequence
from saccade.export.steps.layer_signals import observe_layer
from saccade.export.steps.signal_store import SignalStore
from saccade.policies.signals import AttentionReceived, QueryRows


class ScoringStep(nn.Module):
    """Text-image similarity of a model that acts: run its decoder once, see where the instruction looks.

    The score of a view is the attention that all its tokens receive from the valid text rows, averaged over heads, rows
    and decoder layers: 0 to 1, over all views at most 1. Proprioception is taken to be in the middle of its range, so
    that a score depends on what is seen and asked alone.

    Source:
        Our own, for a family that has no language-model head. It is not QuoTA's score (2503.08689), which asks a second
        model whether an object is visible; a bundle that answers gives that one.

    Args:
        family: Model that scores.
        proprio_dim: Numbers of proprioception.
    """

    def __init__(self, family: SinglePassFamily, proprio_dim: int) -> None:
        super().__init__()
        self.family = family
        self.proprio_dim = proprio_dim

    def forward(
        self, images: Tensor, token_ids: Tensor, attention_mask: Tensor, position_ids: Tensor
    ) -> Tensor:
        """Return the scores, float32 ``(batch, views)``.

        Args:
            images: uint8 ``(batch, views, height, width, 3)``, RGB.
            token_ids: Text of the instruction, int64 ``(batch, max_text_tokens)``.
            attention_mask: bool ``(batch, tokens)``, True = valid.
            position_ids: Rotary positions, int64 ``(batch, tokens)``.
        """
        family, decoder = self.family, self.family.decoder
        proprio = torch.zeros(images.shape[0], self.proprio_dim, device=images.device)
        hidden = family.embed_observation(images, proprio, token_ids)
        sequence = Sequence(hidden, attention_mask, position_ids, family.layout)
        request = AttentionReceived(QueryRows.TEXT, tuple(range(decoder.config.layers)))
        store = SignalStore([request])
        rotary, bias = decoder.rotary(position_ids), decoder.attention_bias(attention_mask)
        for index, layer in enumerate(decoder.layers):
            output = layer(sequence.hidden, rotary, bias)
            observe_layer([store], index, output, sequence, bias, only_action_rows=False)
            sequence = sequence._replace(hidden=output.hidden)
        received = store.read(request)
        return received.reshape(images.shape[0], family.grid.views, -1).sum(dim=2)
