"""Transition and AttentionAhead against float64 NumPy, from the formulas: causal or not, padded, behind a cut."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch

from saccade.export.families.sequence import ACTION, TEXT, VISUAL, Sequence, SequenceLayout
from saccade.export.models.decoder import Decoder, DecoderConfig, DecoderLayer
from saccade.export.steps.layer_signals import observe_ahead, observe_layer
from saccade.export.steps.signal_store import SignalStore
from saccade.policies.signals import AttentionAhead, QueryRows, Signal, Transition

Floats = npt.NDArray[np.float64]

LAYOUT = SequenceLayout({"bos": 1, VISUAL: 6, TEXT: 5, ACTION: 3})
TEXT_LENGTHS = (2, 5)
HEADS, KV_HEADS, HEAD_DIM = 4, 2, 8
KEPT = [[0, 2, 5], [1, 2, 4]]


def _decoder(*, causal: bool) -> Decoder:
    config = DecoderConfig(
        width=16, layers=3, heads=HEADS, kv_heads=KV_HEADS, head_dim=HEAD_DIM, mlp_dim=24, vocab_size=5,
        causal=causal,
    )  # fmt: skip
    decoder = Decoder(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(11)
    for parameter in decoder.parameters():
        parameter.normal_(0.1, 0.4, generator=generator)
    return decoder


def _sequence() -> Sequence:
    hidden = torch.randn(2, LAYOUT.tokens, 16, generator=torch.Generator().manual_seed(12))
    mask = torch.ones(2, LAYOUT.tokens, dtype=torch.bool)
    start = LAYOUT.span(TEXT).start
    for robot, length in enumerate(TEXT_LENGTHS):
        mask[robot, start + length : start + 5] = False
    positions = (mask.cumsum(1) - 1) * mask
    return Sequence(hidden, mask, positions, LAYOUT)


class Robot(NamedTuple):
    """One robot's sequence: valid tokens only, so that there is no padding to get wrong."""

    hidden: Floats
    positions: list[int]
    names: list[str]

    def without(self, dropped: list[int]) -> Robot:
        """Drop visual tokens by their place among the visual ones."""
        visual = [index for index, name in enumerate(self.names) if name == VISUAL]
        keep = [index for index in range(len(self.names)) if index not in [visual[d] for d in dropped]]
        return Robot(self.hidden[keep], [self.positions[i] for i in keep], [self.names[i] for i in keep])


def _robots(sequence: Sequence) -> list[Robot]:
    names = [name for name, tokens in LAYOUT.segments.items() for _ in range(tokens)]
    robots = []
    for robot in range(2):
        valid = [index for index in range(len(names)) if sequence.mask[robot, index]]
        hidden = sequence.hidden[robot].double().numpy()[valid]
        robots.append(Robot(hidden, list(range(len(valid))), [names[index] for index in valid]))
    return robots


def _norm(x: Floats, weight: torch.Tensor) -> Floats:
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6) * weight.double().numpy()


def _linear(layer: torch.nn.Linear, x: Floats) -> Floats:
    return np.asarray(x @ layer.weight.double().numpy().T)


def _rotate(vector: Floats, position: int) -> Floats:
    """Turn the pairs (i, i + half) by position * 10000 ** (-i / half)."""
    half, turned = HEAD_DIM // 2, np.empty(HEAD_DIM)
    for i in range(half):
        angle = position * 10000.0 ** (-i / half)
        turned[i] = vector[i] * np.cos(angle) - vector[i + half] * np.sin(angle)
        turned[i + half] = vector[i + half] * np.cos(angle) + vector[i] * np.sin(angle)
    return turned


def _logits(layer: DecoderLayer, robot: Robot, *, rotary: bool) -> Floats:
    """Scaled logits ``(heads, rows, keys)``, nothing masked."""
    normed = _norm(robot.hidden, layer.input_layernorm.weight)
    query, key = _linear(layer.self_attn.q_proj, normed), _linear(layer.self_attn.k_proj, normed)
    tokens = len(robot.names)
    logits = np.zeros((HEADS, tokens, tokens))
    for head in range(HEADS):
        group = head // (HEADS // KV_HEADS)
        for row in range(tokens):
            for column in range(tokens):
                q = query[row, head * HEAD_DIM : (head + 1) * HEAD_DIM]
                k = key[column, group * HEAD_DIM : (group + 1) * HEAD_DIM]
                if rotary:
                    q, k = _rotate(q, robot.positions[row]), _rotate(k, robot.positions[column])
                logits[head, row, column] = q @ k / np.sqrt(HEAD_DIM)
    return logits


def _softmax(logits: Floats, *, causal: bool) -> Floats:
    weights = np.exp(logits)
    if causal:
        weights *= np.tril(np.ones(logits.shape[1:]))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def _run(layer: DecoderLayer, robot: Robot, *, causal: bool) -> tuple[Robot, Floats]:
    """Run a layer; return what comes out, and TTV of each token, by the formula."""
    read = _norm(robot.hidden, layer.input_layernorm.weight)
    value = _linear(layer.self_attn.v_proj, read)
    weights = _softmax(_logits(layer, robot, rotary=True), causal=causal)
    mixed = []
    for head in range(HEADS):
        group = head // (HEADS // KV_HEADS)
        mixed.append(weights[head] @ value[:, group * HEAD_DIM : (group + 1) * HEAD_DIM])
    wrote = _linear(layer.self_attn.o_proj, np.concatenate(mixed, axis=-1))
    hidden = robot.hidden + wrote
    mlp_read = _norm(hidden, layer.post_attention_layernorm.weight)
    gate = _linear(layer.mlp.gate_proj, mlp_read)
    mlp_wrote = _linear(
        layer.mlp.down_proj, gate / (1.0 + np.exp(-gate)) * _linear(layer.mlp.up_proj, mlp_read)
    )
    variation = _variation(read, wrote) + _variation(mlp_read, mlp_wrote)
    return robot._replace(hidden=hidden + mlp_wrote), variation


def _variation(read: Floats, wrote: Floats) -> Floats:
    """exp(1 - cos(u, y)) / sum over all tokens * |y| / |u|."""
    tokens = range(len(read))
    cosine = [read[t] @ wrote[t] / (np.linalg.norm(read[t]) * np.linalg.norm(wrote[t])) for t in tokens]
    total = sum(np.exp(1.0 - c) for c in cosine)
    grown = [np.linalg.norm(wrote[t]) / np.linalg.norm(read[t]) for t in tokens]
    return np.array([np.exp(1.0 - cosine[t]) / total * grown[t] for t in tokens])


def _visual(robot: Robot, values: Floats) -> Floats:
    return values[[index for index, name in enumerate(robot.names) if name == VISUAL]]


def _observe(decoder: Decoder, index: int, sequence: Sequence, store: SignalStore) -> Sequence:
    """Run one layer as the graph does and observe it."""
    rotary, bias = decoder.rotary(sequence.positions), decoder.attention_bias(sequence.mask)
    output = decoder.layers[index](sequence.hidden, rotary, bias)
    observe_layer([store], index, output, sequence, bias, only_action_rows=False)
    return sequence._replace(hidden=output.hidden)


def _cut(sequence: Sequence, store: SignalStore) -> Sequence:
    kept = torch.tensor(KEPT)
    hidden = sequence.layout.take(sequence.hidden, VISUAL)
    store.drop(kept)
    return sequence.with_visual(torch.gather(hidden, 1, kept.unsqueeze(-1).expand(-1, -1, 16)), kept)


@pytest.mark.parametrize("causal", [False, True])
def test_transition_of_two_layers(causal: bool) -> None:
    decoder, sequence = _decoder(causal=causal), _sequence()
    both, second = Transition((0, 1)), Transition((1,))
    store = SignalStore([both, second])
    robots = _robots(sequence)
    for index in range(3):
        sequence = _observe(decoder, index, sequence, store)
    assert store.read(both).shape == (2, 6)
    for number, start in enumerate(robots):
        after, first = _run(decoder.layers[0], start, causal=causal)
        _, then = _run(decoder.layers[1], after, causal=causal)
        np.testing.assert_allclose(store.read(second)[number].numpy(), _visual(start, then), rtol=2e-4)
        np.testing.assert_allclose(store.read(both)[number].numpy(), _visual(start, first + then), rtol=2e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_after_a_cut_the_sums_follow_the_survivors(causal: bool) -> None:
    """Layer 0 with all tokens, layers 1 and 2 with three of them: what layer 0 gave them stays in the sum."""
    decoder, sequence = _decoder(causal=causal), _sequence()
    request = Transition((0, 1, 2))
    store, robots = SignalStore([request]), _robots(sequence)
    sequence = _cut(_observe(decoder, 0, sequence, store), store)
    for index in (1, 2):
        sequence = _observe(decoder, index, sequence, store)
    assert store.read(request).shape == (2, 3)
    for number, start in enumerate(robots):
        after, first = _run(decoder.layers[0], start, causal=causal)
        kept = KEPT[number]
        thin = after.without([token for token in range(6) if token not in kept])
        expected = _visual(start, first)[kept]
        for index in (1, 2):
            thin, variation = _run(decoder.layers[index], thin, causal=causal)
            expected = expected + _visual(thin, variation)
        np.testing.assert_allclose(store.read(request)[number].numpy(), expected, rtol=2e-4)


def test_padding_takes_no_part() -> None:
    """Whatever stands in padded rows, the visual tokens' variation is the same."""
    decoder, sequence = _decoder(causal=False), _sequence()
    request = Transition((0,))
    stores = [SignalStore([request]), SignalStore([request])]
    noisy = torch.where(sequence.mask.unsqueeze(-1), sequence.hidden, 50.0)
    _observe(decoder, 0, sequence, stores[0])
    _observe(decoder, 0, sequence._replace(hidden=noisy), stores[1])
    torch.testing.assert_close(stores[0].read(request), stores[1].read(request))


def _rows(rows: QueryRows, robot: Robot) -> list[int]:
    text = [index for index, name in enumerate(robot.names) if name == TEXT]
    action = [index for index, name in enumerate(robot.names) if name == ACTION]
    return {
        QueryRows.TEXT: text,
        QueryRows.LAST: text[-1:],
        QueryRows.ALL: list(range(len(robot.names))),
        QueryRows.BEFORE_ACTION: list(range(action[0] if action else len(robot.names))),
        QueryRows.ACTION: [text[-1], *action[:-1]],
    }[rows]


def _ahead(request: AttentionAhead, layer: DecoderLayer, robot: Robot, *, causal: bool) -> Floats:
    """The mean over heads and over those of the asked rows that see the column."""
    values = _logits(layer, robot, rotary=request.rotary)
    if request.softmax:
        values = _softmax(values, causal=causal)
    means = []
    for column in [index for index, name in enumerate(robot.names) if name == VISUAL]:
        seeing = [row for row in _rows(request.rows, robot) if row >= column or not causal]
        means.append(values[:, seeing, column].mean())
    return np.array(means)


AHEAD: list[Signal] = [
    AttentionAhead(rows, rotary=rotary, softmax=softmax)
    for rows in QueryRows
    for rotary in (True, False)
    for softmax in (True, False)
]


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_ahead(causal: bool, cut: bool) -> None:
    """Of layer 1, before it has run; behind a cut, of the tokens that are left, at the positions that they had."""
    decoder, sequence = _decoder(causal=causal), _sequence()
    store, robots = SignalStore(AHEAD), _robots(sequence)
    sequence = _observe(decoder, 0, sequence, store)
    if cut:
        sequence = _cut(sequence, store)
    rotary, bias = decoder.rotary(sequence.positions), decoder.attention_bias(sequence.mask)
    observe_ahead(store, decoder.layers[1], sequence, rotary, bias)
    for number, start in enumerate(robots):
        robot, _ = _run(decoder.layers[0], start, causal=causal)
        if cut:
            robot = robot.without([token for token in range(6) if token not in KEPT[number]])
        for request in AHEAD:
            assert isinstance(request, AttentionAhead)
            expected = _ahead(request, decoder.layers[1], robot, causal=causal)
            found = store.read(request)[number].numpy()
            np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5, err_msg=str(request))


def test_attention_ahead_is_of_the_next_cut_only() -> None:
    decoder, sequence = _decoder(causal=False), _sequence()
    request = AttentionAhead(QueryRows.TEXT)
    store = SignalStore([request])
    rotary, bias = decoder.rotary(sequence.positions), decoder.attention_bias(sequence.mask)
    observe_ahead(store, decoder.layers[0], sequence, rotary, bias)
    first = store.read(request)
    observe_ahead(store, decoder.layers[2], sequence, rotary, bias)
    second = store.read(request)
    for number, robot in enumerate(_robots(sequence)):
        expected = _ahead(request, decoder.layers[2], robot, causal=False)
        np.testing.assert_allclose(second[number].numpy(), expected, rtol=2e-4)
    assert not torch.allclose(first, second, rtol=1e-2)
