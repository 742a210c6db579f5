"""Attention rows against a full attention map written out in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from saccade.export.families.sequence import Sequence, SequenceLayout
from saccade.export.models.decoder import Decoder, DecoderConfig
from saccade.export.steps.layer_signals import observe_layer
from saccade.export.steps.signal_store import SignalStore
from saccade.policies.signals import AttentionReceived, QueryRows

LAYOUT = SequenceLayout({"bos": 1, "visual": 4, "text": 3, "action": 4, "eos": 1})
ROWS = {
    # One prompt of 2 tokens, padded by 1: last prompt token 6, actions read from 6, 8, 9, 10.
    QueryRows.TEXT: [5, 6],
    QueryRows.LAST: [6],
    QueryRows.ALL: [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12],
    QueryRows.BEFORE_ACTION: [0, 1, 2, 3, 4, 5, 6],
    QueryRows.ACTION: [6, 8, 9, 10],
}
MANY = (QueryRows.ALL, QueryRows.BEFORE_ACTION)


def _map(query: Tensor, key: Tensor, mask: Tensor, causal: bool) -> Tensor:
    """Full softmax attention, mean over heads, float64 ``(tokens, tokens)``."""
    query, key = query[0].double(), key[0].double()
    key = key.repeat_interleave(query.shape[0] // key.shape[0], dim=0)
    logits = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5
    seen = mask[0][None, :].expand(LAYOUT.tokens, -1)
    if causal:
        seen = seen & torch.ones(LAYOUT.tokens, LAYOUT.tokens).tril().bool()
    return logits.masked_fill(~seen, -torch.inf).softmax(-1).mean(0)


def _mean_of_rows(whole: Tensor, rows: list[int], *, bias_corrected: bool) -> Tensor:
    """Mean over rows; corrected: over those rows that can see the column, so that a causal mask favours no token."""
    if not bias_corrected:
        return whole[rows].mean(0)
    columns = range(whole.shape[1])
    return torch.stack([whole[[row for row in rows if row >= column], column].mean() for column in columns])


@pytest.mark.parametrize("rows", list(QueryRows))
@pytest.mark.parametrize("causal", [False, True])
def test_rows_are_rows_of_the_full_map(rows: QueryRows, causal: bool) -> None:
    torch.manual_seed(3)
    config = DecoderConfig(
        width=16, layers=2, heads=4, kv_heads=2, head_dim=8, mlp_dim=24, vocab_size=5, causal=causal
    )
    decoder = Decoder(config).eval()
    mask = torch.ones(1, LAYOUT.tokens, dtype=torch.bool)
    mask[0, 7] = False
    positions = (mask.cumsum(1) - 1) * mask
    request = AttentionReceived(rows, (0, 1))
    store = SignalStore([request])
    hidden, expected = torch.randn(1, LAYOUT.tokens, 16), []
    rotary, bias = decoder.rotary(positions), decoder.attention_bias(mask)
    with torch.no_grad():
        for index, layer in enumerate(decoder.layers):
            output = layer(hidden, rotary, bias)
            sequence = Sequence(hidden, mask, positions, LAYOUT)
            observe_layer([store], index, output, sequence, bias, only_action_rows=False)
            whole = _map(output.attention.query, output.attention.key, mask, causal)
            expected.append(_mean_of_rows(whole, ROWS[rows], bias_corrected=rows in MANY and causal)[1:5])
            hidden = output.hidden
    found = store.read(request)
    torch.testing.assert_close(found[0], torch.stack(expected).mean(0).float(), atol=1e-6, rtol=1e-5)


def test_a_short_last_layer_gives_the_same_action_rows() -> None:
    torch.manual_seed(4)
    config = DecoderConfig(
        width=16, layers=1, heads=2, kv_heads=2, head_dim=8, mlp_dim=24, vocab_size=5, causal=True
    )
    decoder = Decoder(config).eval()
    mask = torch.ones(2, LAYOUT.tokens, dtype=torch.bool)
    mask[1, 6:8] = False
    positions = (mask.cumsum(1) - 1) * mask
    rotary, bias = decoder.rotary(positions), decoder.attention_bias(mask)
    hidden = torch.randn(2, LAYOUT.tokens, 16)
    signals = []
    for take in (None, lambda x: LAYOUT.answer_states(x, mask)):
        request = AttentionReceived(QueryRows.ACTION, (0,))
        store = SignalStore([request])
        output = decoder.layers[0](hidden, rotary, bias, take)
        sequence = Sequence(hidden, mask, positions, LAYOUT)
        observe_layer([store], 0, output, sequence, bias, only_action_rows=take is not None)
        signals.append(store.read(request))
    torch.testing.assert_close(signals[0], signals[1])
