"""Signals of decoder layers, observed as the decoder runs or just ahead of the next layer."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.export.families.sequence import ACTION, TEXT, VISUAL, Sequence, SequenceLayout
from saccade.export.models.attention_rows import attention_by_row, attention_received, mean_logits
from saccade.export.models.decoder import DecoderLayer, LayerOutput, Move, Rotary
from saccade.export.steps.signal_store import SignalStore
from saccade.policies.signals import AttentionAhead, AttentionByRow, AttentionReceived, QueryRows, Transition

_MANY = (QueryRows.ALL, QueryRows.BEFORE_ACTION)
"""Kinds of rows that stand in front of and behind the columns that they look at."""


def observe_layer(
    stores: Iterable[SignalStore],
    layer: int,
    output: LayerOutput,
    sequence: Sequence,
    bias: Tensor,
    *,
    only_action_rows: bool,
    has_action_rows: bool = True,
) -> None:
    """Add what decoder layer ``layer`` contributes to each store.

    Args:
        stores: Stores that collect the signals.
        layer: Index of the layer.
        output: What the layer gave.
        sequence: Sequence that the layer was given: layout and mask count.
        bias: Attention bias of the layer, float32 ``(batch, 1, 1 or tokens, keys)``.
        only_action_rows: ``output`` has the action rows alone.
        has_action_rows: False: actions are read elsewhere, and so is the attention that they pay.
    """
    read: dict[QueryRows, Tensor] = {}  # two stores may want the same
    for store in stores:
        for received in store.wanted(AttentionReceived):
            if layer in received.layers and (has_action_rows or received.rows is not QueryRows.ACTION):
                if received.rows not in read:
                    read[received.rows] = _received(received.rows, output, sequence, bias, only_action_rows)
                store.add(received, read[received.rows])
        for by_row in store.wanted(AttentionByRow):
            if layer == by_row.layer:
                query, row_bias, _ = query_rows(QueryRows.TEXT, output.attention.query, bias, sequence)
                weights = attention_by_row(query, output.attention.key, row_bias)
                store.add(by_row, weights[:, :, sequence.layout.span(VISUAL)])
        for transition in store.wanted(Transition):
            if layer in transition.layers:
                store.add(transition, _transition(output.moves, sequence))


def observe_ahead(
    store: SignalStore, layer: DecoderLayer, sequence: Sequence, rotary: Rotary, bias: Tensor
) -> None:
    """Add the attention that ``layer``, which has not run, would pay; from its queries and keys alone."""
    requests = store.wanted(AttentionAhead)
    if not requests:
        return
    normed = layer.input_layernorm(sequence.hidden)
    keys = layer.self_attn.keys(normed)
    for request in requests:
        # Only the rows that ask are projected to queries; every token is a key.
        asking, row_bias, weights = query_rows(request.rows, normed.unsqueeze(1), bias, sequence)
        query, key = layer.self_attn.queries(asking.squeeze(1)), keys
        if request.rotary:
            take = partial(_take_tokens, request.rows, sequence)
            query, key = rotary.rows(take).apply(query), rotary.apply(keys)
        if request.softmax:
            value = attention_received(query, key, row_bias, weights)
        else:
            value = mean_logits(query, key, weights, _seen_by(request.rows, row_bias))
        value = _per_seeing_row(value, request.rows, row_bias, weights)
        store.replace(request, sequence.layout.take(value, VISUAL))


def reads_only_action(stores: Iterable[SignalStore], layer: int) -> bool:
    """Whether nothing but action rows is wanted of ``layer``."""
    for store in stores:
        received = [request.rows for request in store.wanted(AttentionReceived) if layer in request.layers]
        others = [request for request in store.wanted(AttentionByRow) if layer == request.layer]
        moved = [request for request in store.wanted(Transition) if layer in request.layers]
        if others or moved or any(rows is not QueryRows.ACTION for rows in received):
            return False
    return True


def query_rows(
    rows: QueryRows, query: Tensor, bias: Tensor, sequence: Sequence
) -> tuple[Tensor, Tensor, Tensor]:
    """Take the rows that a request names.

    Args:
        rows: Kind of rows that the request names.
        query: Queries of all tokens, ``(batch, heads, tokens, head_dim)``.
        bias: Attention bias, float32 ``(batch, 1, 1 or tokens, keys)``.
        sequence: Sequence of the tokens: layout and mask count.

    Returns:
        The rows ``(batch, heads, rows, head_dim)``, their bias ``(batch, 1, 1 or rows, keys)``, and their weights,
        float32 ``(batch, rows)`` summing to 1.
    """
    layout, mask = sequence.layout, sequence.mask
    chosen = _take_rows(rows, query, layout, mask)
    row_bias = bias if bias.shape[2] == 1 else _take_rows(rows, bias, layout, mask)
    if rows is QueryRows.TEXT:
        return chosen, row_bias, _mean_of_valid(layout.take(mask, TEXT))
    if rows is QueryRows.BEFORE_ACTION and ACTION in layout.segments:
        # All rows, so that the layer's own attention serves; those of actions weigh nothing.
        before = layout.span(ACTION).start
        weights = F.pad(_mean_of_valid(mask[:, :before]), (0, mask.shape[1] - before))
        return chosen, row_bias, weights
    if rows in _MANY:
        return chosen, row_bias, _mean_of_valid(mask)
    return chosen, row_bias, _plain_mean(chosen)


def _take_tokens(rows: QueryRows, sequence: Sequence, x: Tensor) -> Tensor:
    """Take the rows that a request names from ``(batch, tokens, channels)``."""
    return _take_rows(rows, x.unsqueeze(1), sequence.layout, sequence.mask).squeeze(1)


def _take_rows(rows: QueryRows, x: Tensor, layout: SequenceLayout, mask: Tensor) -> Tensor:
    if rows is QueryRows.TEXT:
        return x[:, :, layout.span(TEXT)]
    if rows in _MANY:
        return x
    if rows is QueryRows.ACTION:
        return layout.answer_states(x, mask, token_axis=2)
    index = layout.last_text(mask)[:, None, :, None]
    return torch.gather(x, 2, index.expand(-1, x.shape[1], -1, x.shape[3]))


def _received(
    rows: QueryRows, output: LayerOutput, sequence: Sequence, bias: Tensor, only_action_rows: bool
) -> Tensor:
    """Mean attention of the rows, at the visual columns."""
    attention, layout, mask = output.attention, sequence.layout, sequence.mask
    if only_action_rows:
        query, weights = attention.query, _plain_mean(attention.query)
        row_bias = bias if bias.shape[2] == 1 else _take_rows(QueryRows.ACTION, bias, layout, mask)
    else:
        query, row_bias, weights = query_rows(rows, attention.query, bias, sequence)
    received = attention_received(query, attention.key, row_bias, weights)
    return visual_columns(_per_seeing_row(received, rows, row_bias, weights), sequence)


def _per_seeing_row(received: Tensor, rows: QueryRows, row_bias: Tensor, weights: Tensor) -> Tensor:
    """Turn a mean over all rows ``(batch, keys)`` into one over the rows that see the column: those behind it."""
    seen = _seen_by(rows, row_bias)
    return received if seen is None else received / (weights.unsqueeze(1) @ seen).squeeze(1)


def _seen_by(rows: QueryRows, row_bias: Tensor) -> Tensor | None:
    """Float32 ``(batch, rows, keys)``, 1 where a row sees a column; None where all rows see the same ones."""
    if rows not in _MANY or row_bias.shape[2] == 1:
        return None
    return (row_bias[:, 0] > -1.0).float()


def visual_columns(received: Tensor, sequence: Sequence) -> Tensor:
    """Return the visual columns of ``(batch, keys)``; keys of dropped tokens, if they are there, are visual too."""
    missing = received.shape[1] - sequence.layout.tokens
    return sequence.layout.with_visual(sequence.layout.visual + missing).take(received, VISUAL)


def _transition(moves: tuple[Move, Move], sequence: Sequence) -> Tensor:
    """Token transition variation of one layer, ``(batch, visual)``."""
    valid, total = sequence.mask, torch.zeros_like(sequence.mask, dtype=torch.float32)
    for read, wrote in moves:
        read_norm, wrote_norm = read.float().norm(dim=-1), wrote.float().norm(dim=-1)
        cosine = (read.float() * wrote.float()).sum(dim=-1) / (read_norm * wrote_norm).clamp(min=1e-12)
        turned = torch.where(valid, torch.exp(1.0 - cosine), 0.0)
        total = total + turned / turned.sum(dim=1, keepdim=True) * wrote_norm / read_norm.clamp(min=1e-12)
    return sequence.layout.take(total, VISUAL)


def _plain_mean(rows: Tensor) -> Tensor:
    """Weights of a mean over all of ``(batch, heads, rows, channels)``."""
    batch, _, count, _ = rows.shape
    return torch.full((batch, count), 1.0 / count, device=rows.device)


def _mean_of_valid(mask: Tensor) -> Tensor:
    """Weights of a mean over the True entries of bool ``(batch, rows)``."""
    valid = mask.float()
    return valid / valid.sum(dim=1, keepdim=True)
