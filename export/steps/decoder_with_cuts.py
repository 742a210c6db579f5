"""The decoder with a policy in it: signals observed layer by layer, cuts made between layers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple, cast

from torch import Tensor, nn

from saccade.export.families.sequence import VISUAL, Sequence
from saccade.export.models.decoder import Decoder, DecoderLayer, Rotary
from saccade.export.models.head_removal import without_heads
from saccade.export.steps.layer_signals import observe_ahead, observe_layer, reads_only_action
from saccade.export.steps.survivors import Survivors, take_survivors
from saccade.export.steps.visual_memory import VisualMemory
from saccade.policies.base import Behind, Place, TokenPolicy


class _Tables(NamedTuple):
    """Constants of layers with one set of tokens: they follow from mask and positions alone.

    Args:
        rotary: Rotary tables of the rows.
        bias: Attention bias of rows over keys, float32 ``(batch, 1, 1 or rows, keys)``.
        keys: Sequence whose tokens the keys are.
    """

    rotary: Rotary
    bias: Tensor
    keys: Sequence


class LayerKeys(NamedTuple):
    """Keys and values of one decoder layer, for a cache.

    Args:
        keys: Keys after rotary, ``(batch, kv_heads, tokens, head_dim)``.
        values: Values, ``(batch, kv_heads, tokens, head_dim)``.
        sequence: Sequence whose tokens these are: mask, positions and layout count.
        origin: Original indices of the visual tokens among them, int64 ``(batch, visual)``.
    """

    keys: Tensor
    values: Tensor
    sequence: Sequence
    origin: Tensor


def thinned_layers(decoder: Decoder, removed: Mapping[int, tuple[int, ...]]) -> nn.ModuleDict:
    """Return copies of decoder layers without the heads that a policy removes from them, by index.

    Args:
        decoder: Decoder whose layers are copied.
        removed: Indices of the query heads that go, by layer index.
    """
    return nn.ModuleDict(
        {
            str(layer): without_heads(cast(DecoderLayer, decoder.layers[layer]), heads)
            for layer, heads in removed.items()
            if heads
        }
    )


class DecoderPass:
    """The decoder's layers, with a policy's cuts between them.

    Args:
        decoder: Decoder that runs.
        thinned: Layers that run in the place of the decoder's own, by index, from :func:`thinned_layers`.
        policy: Policy whose cuts are made.
        is_prefix: Actions come from an expert that reads keys and values, so that they are all that is computed of the
            last layer, and action rows are the expert's.
    """

    def __init__(
        self, decoder: Decoder, thinned: nn.ModuleDict, policy: TokenPolicy, *, is_prefix: bool = False
    ) -> None:
        self.decoder = decoder
        self._thinned, self._policy, self._is_prefix = thinned, policy, is_prefix

    def run(
        self,
        sequence: Sequence,
        survivors: Survivors,
        memory: VisualMemory,
        cached: list[LayerKeys] | None = None,
    ) -> Tensor:
        """Run every layer.

        Args:
            sequence: Tokens at the decoder's entry, with every visual token that is alive there.
            survivors: Makes the cuts and collects the signals.
            memory: Keys and values of the last control step, where a policy reuses them.
            cached: List that gets the keys and values of each layer; None = they are not needed.

        Returns:
            Final states of the rows that the answer is read from, ``(batch, rows, width)``; of a prefix nobody reads
            them.
        """
        decoder = self.decoder
        embeddings = sequence.layout.take(sequence.hidden, VISUAL)
        keys = sequence  # whose mask and positions the keys have
        tables = self._tables(sequence, keys)
        for index in range(decoder.config.layers):
            layer = self.layer(index)
            for number in survivors.cuts_at(Place.DECODER, index):
                observe_ahead(survivors.signals, layer, sequence, tables.rotary, tables.bias)
                selection = survivors.cut(number, embeddings)
                if selection is None:
                    sequence = sequence.without_visual()
                else:
                    embeddings = take_survivors(embeddings, selection)
                    hidden = take_survivors(sequence.layout.take(sequence.hidden, VISUAL), selection)
                    sequence = sequence.with_visual(hidden, selection.kept)
                if self._policy.cuts[number].behind is Behind.LAST_STEP:
                    memory.compute_only(survivors.origin)
                else:
                    keys = sequence
                tables = self._tables(sequence, keys)
            sequence = self._run_layer(index, layer, sequence, tables, survivors, memory, cached)
            if index < min(len(survivors.deep), decoder.config.layers - 1):
                # Of the last layer nobody reads visual rows.
                sequence = sequence.add_visual(survivors.deep[index])
        return sequence.hidden

    def _run_layer(
        self,
        index: int,
        layer: DecoderLayer,
        sequence: Sequence,
        tables: _Tables,
        survivors: Survivors,
        memory: VisualMemory,
        cached: list[LayerKeys] | None,
    ) -> Sequence:
        """Run one layer; of the decoder's last one, only the rows that are read come back."""
        stores = (survivors.signals, survivors.updates)
        take = partial(sequence.layout.answer_states, attention_mask=sequence.mask)
        last = index == self.decoder.config.layers - 1
        short = last and reads_only_action(stores, index)
        if short and self._is_prefix and cached is not None:
            normed = layer.input_layernorm(sequence.hidden)
            key, value = tables.rotary.apply(layer.self_attn.keys(normed)), layer.self_attn.values(normed)
            cached.append(LayerKeys(key, value, sequence, survivors.origin))
            return sequence
        extend = memory.extend if memory.is_used else None
        output = layer(sequence.hidden, tables.rotary, tables.bias, take if short else None, extend)
        observe_layer(
            stores,
            index,
            output,
            sequence,
            tables.bias,
            only_action_rows=short,
            has_action_rows=not self._is_prefix,
        )
        if cached is not None:
            origin = survivors.origin
            cached.append(LayerKeys(output.attention.key, output.attention.value, tables.keys, origin))
        return sequence._replace(hidden=take(output.hidden) if last and not short else output.hidden)

    def layer(self, index: int) -> DecoderLayer:
        """Return a layer as it runs: without the heads that the policy removed."""
        layers, key = self.decoder.layers, str(index)
        return cast(DecoderLayer, self._thinned[key] if key in self._thinned else layers[index])

    def _tables(self, sequence: Sequence, keys: Sequence) -> _Tables:
        """Rotary tables of the rows, and the bias of rows over keys."""
        decoder = self.decoder
        rows, columns = sequence.order, keys.order
        if keys is not sequence and rows is None:
            rows, columns = sequence.positions, keys.positions
        bias = decoder.attention_bias(keys.mask, rows, columns)
        return _Tables(decoder.rotary(sequence.positions), bias, keys)
