"""A layer without some heads equals the whole layer whose output matrix ignores them."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from saccade.export.models.decoder import Decoder, DecoderConfig, DecoderLayer
from saccade.export.models.head_removal import without_heads
from saccade.proto.errors import ExportError

HEAD_DIM, TOKENS = 8, 7


def _decoder(*, kv_heads: int = 4, **switches: bool) -> Decoder:
    config = DecoderConfig(
        width=16,
        layers=1,
        heads=4,
        kv_heads=kv_heads,
        head_dim=HEAD_DIM,
        mlp_dim=24,
        vocab_size=5,
        **switches,
    )
    decoder = Decoder(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for parameter in decoder.parameters():
        parameter.normal_(0.0, 0.5, generator=generator)
    return decoder


def _muted(layer: DecoderLayer, heads: Sequence[int]) -> DecoderLayer:
    """The whole layer; what these heads give counts for nothing."""
    muted = copy.deepcopy(layer)
    for head in heads:
        muted.self_attn.o_proj.weight[:, head * HEAD_DIM : (head + 1) * HEAD_DIM] = 0.0
    return muted


def _inputs(decoder: Decoder) -> tuple[Tensor, ...]:
    hidden = torch.randn(2, TOKENS, 16, generator=torch.Generator().manual_seed(4))
    mask = torch.ones(2, TOKENS, dtype=torch.bool)
    mask[1, 4:6] = False
    positions = (mask.cumsum(1) - 1) * mask
    return hidden, decoder.rotary(positions), decoder.attention_bias(mask)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("switches", [{}, {"qkv_bias": True}, {"qk_norm": True}])
@pytest.mark.parametrize(
    ("kv_heads", "removed"),
    [(4, (0,)), (4, (3, 1)), (4, (0, 2, 3)), (4, ()), (2, (0, 1)), (2, (2, 3)), (2, (3, 2))],
)
def test_equals_the_muted_layer(
    kv_heads: int, removed: tuple[int, ...], switches: dict[str, bool], causal: bool
) -> None:
    decoder = _decoder(kv_heads=kv_heads, causal=causal, **switches)
    layer, inputs = decoder.layers[0], _inputs(decoder)
    thin, muted = without_heads(layer, removed)(*inputs), _muted(layer, removed)(*inputs)
    torch.testing.assert_close(thin.hidden, muted.hidden, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(thin.attention.projected, muted.attention.projected, atol=1e-5, rtol=1e-5)
    kept = [head for head in range(4) if head not in removed]
    torch.testing.assert_close(thin.attention.query, muted.attention.query[:, kept])
    torch.testing.assert_close(thin.attention.heads, muted.attention.heads[:, kept])
    kept_kv = sorted({head * kv_heads // 4 for head in kept})
    torch.testing.assert_close(thin.attention.key, muted.attention.key[:, kept_kv])
    if removed:
        assert not torch.allclose(thin.hidden, layer(*inputs).hidden, atol=1e-2)


def test_some_rows_of_a_thin_layer() -> None:
    decoder = _decoder(causal=True)
    layer, inputs = decoder.layers[0], _inputs(decoder)
    part = without_heads(layer, (1,))(*inputs, lambda x: x[:, 2:4])
    torch.testing.assert_close(part.hidden, _muted(layer, (1,))(*inputs).hidden[:, 2:4], atol=1e-5, rtol=1e-5)


def test_the_whole_layer_stays_and_shares_its_other_weights() -> None:
    decoder = _decoder(qkv_bias=True)
    layer, inputs = decoder.layers[0], _inputs(decoder)
    before, state = layer(*inputs).hidden, {name: x.clone() for name, x in layer.state_dict().items()}
    thin = without_heads(layer, (2,))
    assert torch.equal(layer(*inputs).hidden, before)
    assert layer.self_attn.config.heads == 4 and thin.self_attn.config.heads == 3
    assert state.keys() == layer.state_dict().keys() == thin.state_dict().keys()
    assert thin.mlp is layer.mlp and thin.input_layernorm is layer.input_layernorm
    assert thin.self_attn.q_proj.weight.shape == (24, 16) and thin.self_attn.q_proj.bias.shape == (24,)
    assert thin.self_attn.o_proj.weight.shape == (16, 24) and thin.self_attn.k_proj.weight.shape == (24, 16)


def test_grouped_keys_shrink_with_their_queries() -> None:
    thin = without_heads(_decoder(kv_heads=2).layers[0], (0, 1))
    assert (thin.self_attn.config.heads, thin.self_attn.config.kv_heads) == (2, 1)
    assert thin.self_attn.k_proj.weight.shape == thin.self_attn.v_proj.weight.shape == (8, 16)


@pytest.mark.parametrize(
    ("kv_heads", "removed", "found"),
    [
        (4, (4,), r"\[4\]"),
        (4, (-1,), r"\[-1\]"),
        (4, (0, 1, 2, 3), r"\[0, 1, 2, 3\]"),
        (2, (0,), r"\[0\]"),
        (2, (1, 2), r"\[1, 2\]"),
        (2, (0, 1, 2, 3), r"\[0, 1, 2, 3\]"),
    ],
)
def test_heads_that_cannot_be_removed(kv_heads: int, removed: tuple[int, ...], found: str) -> None:
    group = 4 // kv_heads
    message = rf"heads out of 0\.\.3 to remove, in whole groups of {group}, and at least one group left, found {found}"
    with pytest.raises(ExportError, match=message):
        without_heads(_decoder(kv_heads=kv_heads).layers[0], removed)
