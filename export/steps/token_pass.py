"""Further tokens behind a sequence that the decoder has read, one at a time, each seeing all that came before it.

Keys and values are put behind those of the prompt, whose lengths may differ from layer to layer, so that nothing is
written into a cache: a graph in which the tokens are unrolled has static shapes without it.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.export.families.sequence import VISUAL
from saccade.export.models.attention_rows import attention_received
from saccade.export.models.decoder import MASKED_LOGIT, AttentionOutput
from saccade.export.steps.decoder_with_cuts import DecoderPass, LayerKeys
from saccade.export.steps.survivors import Survivors
from saccade.policies.signals import AttentionReceived, QueryRows


class TokenPass:
    """The tokens that follow a prompt; each is one of the policy's action rows.

    Args:
        decoder_pass: Pass of the decoder that read the prompt.
        prompt: Keys and values of the prompt in each layer.
        survivors: Visual tokens that the prompt left; gets the attention that the tokens pay.
    """

    def __init__(self, decoder_pass: DecoderPass, prompt: Items[LayerKeys], survivors: Survivors) -> None:
        self._pass, self._prompt, self._survivors = decoder_pass, prompt, survivors
        self._keys = [layer.keys for layer in prompt]
        self._values = [layer.values for layer in prompt]
        self._wanted = [
            request
            for request in survivors.updates.wanted(AttentionReceived)
            if request.rows is QueryRows.ACTION
        ]
        self._paid: dict[AttentionReceived, Tensor] = {}
        self._tokens = 0

    def run(self, embeddings: Tensor, position_ids: Tensor) -> Tensor:
        """Run the next token.

        Args:
            embeddings: Embedding of the token, ``(batch, 1, width)``.
            position_ids: Rotary position of the token, int64 ``(batch, 1)``.

        Returns:
            The token's final state after the norm, ``(batch, width)``.
        """
        decoder, hidden = self._pass.decoder, embeddings
        rotary = decoder.rotary(position_ids)
        self._tokens += 1
        for index, layer in enumerate(self._prompt):
            bias = self._bias(layer.sequence.mask)
            output = self._pass.layer(index)(hidden, rotary, bias, None, partial(self._extend, index))
            self._observe(index, output.attention, bias)
            hidden = output.hidden
        final: Tensor = decoder.norm(hidden[:, 0])
        return final

    def report(self) -> None:
        """Tell the survivors what attention the tokens paid; after the last of them."""
        for request, paid in self._paid.items():
            origin = self._prompt[request.layers[0]].origin
            self._survivors.add_rows(request, paid, origin, self._tokens)

    def _bias(self, mask: Tensor) -> Tensor:
        """Padding of the prompt is not seen; the tokens behind it, and the current one, are."""
        seen = F.pad(mask, (0, self._tokens), value=True)
        return torch.where(seen[:, None, None, :], 0.0, MASKED_LOGIT)

    def _extend(self, index: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        self._keys[index] = torch.cat([self._keys[index], key], dim=2)
        self._values[index] = torch.cat([self._values[index], value], dim=2)
        return self._keys[index], self._values[index]

    def _observe(self, index: int, attention: AttentionOutput, bias: Tensor) -> None:
        """Add what layer ``index`` contributes: the one row's attention at the visual columns."""
        layout = self._prompt[index].sequence.layout
        for request in self._wanted:
            if index in request.layers:
                only = torch.ones(bias.shape[0], 1, device=bias.device)
                received = attention_received(attention.query, attention.key, bias, only)
                paid = layout.take(received, VISUAL)
                self._paid[request] = self._paid[request] + paid if request in self._paid else paid
