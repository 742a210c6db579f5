"""The decoder against transformers' Llama, Qwen2 and Qwen3, random weights, to 1e-5."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from saccade.export.models.decoder import Decoder, DecoderConfig

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 24,
    "vocab_size": 11,
    "rms_norm_eps": 1e-6,
}
OURS = {"width": 16, "layers": 3, "heads": 4, "kv_heads": 2, "head_dim": 8, "mlp_dim": 24, "vocab_size": 11}
TOKENS = 9


def _reference(kind: str) -> Any:
    config = getattr(transformers, f"{kind}Config")(**SIZES)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.4)
    return model


def _inputs(seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(2, TOKENS, 16, generator=generator)
    mask = torch.ones(2, TOKENS, dtype=torch.bool)
    mask[1, 5:7] = False
    positions = (mask.cumsum(1) - 1) * mask
    return embeddings, mask, positions


@pytest.mark.parametrize(
    ("kind", "switches"),
    [("Llama", {}), ("Qwen2", {"qkv_bias": True}), ("Qwen3", {"qk_norm": True})],
)
@pytest.mark.parametrize("causal", [False, True])
def test_same_as_transformers(kind: str, switches: dict[str, bool], causal: bool) -> None:
    reference = _reference(kind)
    decoder = Decoder(DecoderConfig(**OURS, **switches, causal=causal)).eval()
    decoder.load_state_dict(reference.state_dict())
    embeddings, mask, positions = _inputs()
    seen = mask[:, None, None, :].expand(2, 1, TOKENS, TOKENS)
    if causal:
        seen = seen & torch.ones(TOKENS, TOKENS).tril().bool()
    bias = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    with torch.no_grad():
        expected = reference(
            inputs_embeds=embeddings, attention_mask=bias, position_ids=positions, use_cache=False
        ).last_hidden_state
        found = decoder(embeddings, mask, positions)
    torch.testing.assert_close(found[mask], expected[mask], atol=1e-5, rtol=1e-4)


def test_a_short_last_layer_gives_the_same_rows() -> None:
    decoder = Decoder(DecoderConfig(**OURS, causal=True)).eval()
    embeddings, mask, positions = _inputs()
    rotary, bias = decoder.rotary(positions), decoder.attention_bias(mask)
    whole = decoder.layers[0](embeddings, rotary, bias)
    part = decoder.layers[0](embeddings, rotary, bias, lambda x: x[:, 3:5])
    torch.testing.assert_close(part.hidden, whole.hidden[:, 3:5])
    torch.testing.assert_close(part.attention.query, whole.attention.query[:, :, 3:5])
    torch.testing.assert_close(part.attention.key, whole.attention.key)


def test_norms_and_rotary_stay_float32_in_bfloat16() -> None:
    decoder = Decoder(DecoderConfig(**OURS, causal=False)).eval()
    rotary = decoder.rotary(torch.arange(4)[None])
    assert rotary.cos.dtype == torch.float32
    assert rotary.apply(torch.ones(1, 4, 4, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16
    half = torch.full((1, 2, 16), 300.0, dtype=torch.float16)
    assert torch.isfinite(decoder.norm(half)).all()  # 300^2 overflows float16
