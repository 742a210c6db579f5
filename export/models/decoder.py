"""The one Llama-like decoder of all families: a switch table instead of forks.

It is called layer by layer, with embeddings, mask and positions given, so that a token-selection policy may
act between two layers. Each layer also hands out its query and key after rotary embedding: attention *rows* are
computed from them where a policy asks (:mod:`saccade.export.models.attention_rows`) and cost nothing elsewhere.

Parameter names are transformers' (``layers.N.self_attn.q_proj`` ...). Norms, softmax and rotary tables are
float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.export.models.activations import activation

MASKED_LOGIT = -30000.0
"""Added to the logit of a key that may not be seen: zero after softmax in every float type, and never NaN."""


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The switches of a decoder; a missing value takes the default of transformers' ``LlamaConfig``.

    Args:
        width: Channels of a token.
        layers: Decoder layers.
        heads: Query heads.
        kv_heads: Key and value heads; divides ``heads``.
        head_dim: Channels of a head.
        mlp_dim: Hidden width of the gated MLP.
        vocab_size: Rows of the embedding table.
        norm_eps: RMSNorm epsilon.
        rope_theta: Rotary base.
        rope_sections: Where positions have three axes (time, row, column): how many of the ``head_dim / 2`` frequencies
            each axis turns (Qwen-VL); empty = one axis.
        rope_interleaved: Axes take turns over the frequencies (Qwen3-VL), instead of one run for each.
        qkv_bias: q, k and v have biases (Qwen2).
        qk_norm: RMSNorm on each head's query and key (Qwen3).
        activation: Name of the MLP gate's activation: ``silu``, or ``gelu_tanh`` (Gemma).
        causal: A token sees itself and those before it; False: every valid token sees every valid token (OpenVLA-OFT).
        final_norm: RMSNorm after the last layer.
    """

    width: int = 4096
    layers: int = 32
    heads: int = 32
    kv_heads: int = 32
    head_dim: int = 128
    mlp_dim: int = 11008
    vocab_size: int = 32000
    norm_eps: float = 1e-6
    rope_theta: float = 1e4
    rope_sections: tuple[int, ...] = ()
    rope_interleaved: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    activation: str = "silu"
    causal: bool = True
    final_norm: bool = True


TakeRows = Callable[[Tensor], Tensor]
"""Picks tokens: (batch, tokens, channels) -> (batch, rows, channels)."""


class Rotary(NamedTuple):
    """Rotary tables of a sequence, float32 ``(batch, 1, tokens, head_dim)``.

    ``sin`` carries the sign of the half-split rotation: rotating is ``x * cos + swap_halves(x) * sin``.
    """

    cos: Tensor
    sin: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """Rotate ``(batch, heads, tokens, head_dim)`` in float32 and return it in its own dtype."""
        wide = x.float()
        low, high = wide.chunk(2, dim=-1)
        return (wide * self.cos + torch.cat([high, low], dim=-1) * self.sin).to(x.dtype)

    def rows(self, take: TakeRows) -> Rotary:
        """Return the tables of some tokens."""
        return Rotary(take(self.cos.squeeze(1)).unsqueeze(1), take(self.sin.squeeze(1)).unsqueeze(1))


Extend = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Adds the keys and values of tokens that are not in the sequence: ``(batch, kv_heads, tokens, head_dim)`` each."""


class AttentionOutput(NamedTuple):
    """What self-attention gives; ``rows`` is ``tokens`` unless only some rows were asked for.

    Args:
        projected: What goes to the residual, ``(batch, rows, width)``.
        query: Queries after rotary, ``(batch, heads, rows, head_dim)``.
        key: Keys after rotary, ``(batch, kv_heads, keys, head_dim)``.
        value: Values, ``(batch, kv_heads, keys, head_dim)``.
        heads: What each head gave, before they are mixed, ``(batch, heads, rows, head_dim)``.
    """

    projected: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    heads: Tensor


class Move(NamedTuple):
    """What a sub-layer read and what it wrote, both ``(batch, rows, width)``; the residual is not in it."""

    read: Tensor
    wrote: Tensor


class LayerOutput(NamedTuple):
    """What one decoder layer gives.

    Args:
        hidden: Tokens after the layer, ``(batch, rows, width)``.
        attention: What the layer's self-attention gave.
        moves: What self-attention, then the MLP, read and wrote.
    """

    hidden: Tensor
    attention: AttentionOutput
    moves: tuple[Move, Move]


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, in float32. Written with a division: the form that engines fuse."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same, in the dtype of ``x``."""
        wide = x.float()
        return (wide / torch.sqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


class DecoderAttention(nn.Module):
    """Grouped-query self-attention with rotary positions."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        heads_dim, kv_dim = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.width, heads_dim, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.width, kv_dim, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.width, kv_dim, bias=config.qkv_bias)
        self.o_proj = nn.Linear(heads_dim, config.width, bias=False)
        self.q_norm = RmsNorm(config.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RmsNorm(config.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()

    def forward(
        self,
        x: Tensor,
        rotary: Rotary,
        bias: Tensor,
        take: TakeRows | None = None,
        extend: Extend | None = None,
    ) -> AttentionOutput:
        """Attend to every token, from all of them or from some rows.

        Args:
            x: Tokens after the norm, ``(batch, tokens, width)``.
            rotary: Rotary tables of the tokens.
            bias: Added to the logits, float32 ``(batch, 1, 1 or tokens, keys)``.
            take: Picks the rows that ask; every token is still a key. None = all rows.
            extend: Adds keys and values of tokens that are not in ``x``; ``bias`` is over the extended keys.
        """
        asking, asking_rotary = (x, rotary) if take is None else (take(x), rotary.rows(take))
        if take is not None and bias.shape[2] > 1:
            bias = take(bias.squeeze(1)).unsqueeze(1)
        query, key = asking_rotary.apply(self.queries(asking)), rotary.apply(self.keys(x))
        value = self.values(x)
        if extend is not None:
            key, value = extend(key, value)
        group = self.config.heads // self.config.kv_heads
        heads = F.scaled_dot_product_attention(
            query, repeat_heads(key, group), repeat_heads(value, group), attn_mask=bias
        )
        return AttentionOutput(self.o_proj(heads.transpose(1, 2).flatten(2)), query, key, value, heads)

    def queries(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) -> ``(batch, heads, tokens, head_dim)``, not rotated."""
        return self._split(self.q_norm, self.q_proj(x))

    def keys(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) -> ``(batch, kv_heads, tokens, head_dim)``, not rotated."""
        return self._split(self.k_norm, self.k_proj(x))

    def values(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) -> ``(batch, kv_heads, tokens, head_dim)``."""
        return self._split(nn.Identity(), self.v_proj(x))

    def _split(self, norm: nn.Module, x: Tensor) -> Tensor:
        """(batch, tokens, heads * head_dim) -> (batch, heads, tokens, head_dim)."""
        batch, tokens, channels = x.shape
        head_dim = self.config.head_dim
        split: Tensor = norm(x.reshape(batch, tokens, channels // head_dim, head_dim)).transpose(1, 2)
        return split


class DecoderMlp(nn.Module):
    """down(activation(gate(x)) * up(x))."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.activation = activation(config.activation)
        self.gate_proj = nn.Linear(config.width, config.mlp_dim, bias=False)
        self.up_proj = nn.Linear(config.width, config.mlp_dim, bias=False)
        self.down_proj = nn.Linear(config.mlp_dim, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) -> same."""
        projected: Tensor = self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))
        return projected


class DecoderLayer(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(config.width, config.norm_eps)
        self.self_attn = DecoderAttention(config)
        self.post_attention_layernorm = RmsNorm(config.width, config.norm_eps)
        self.mlp = DecoderMlp(config)

    def forward(
        self,
        hidden: Tensor,
        rotary: Rotary,
        bias: Tensor,
        take: TakeRows | None = None,
        extend: Extend | None = None,
    ) -> LayerOutput:
        """Run one layer.

        Args:
            hidden: Tokens before the layer, ``(batch, tokens, width)``.
            rotary: Rotary tables of the tokens, from :meth:`Decoder.rotary`.
            bias: Added to the logits, from :meth:`Decoder.attention_bias`; over the extended keys if there is
                ``extend``.
            take: Compute only these rows; every token is still a key. For the last layer, whose other rows
                nobody reads.
            extend: Adds keys and values of tokens that are not in ``hidden``.
        """
        normed = self.input_layernorm(hidden)
        attention = self.self_attn(normed, rotary, bias, take, extend)
        if take is not None:
            hidden, normed = take(hidden), take(normed)
        hidden = hidden + attention.projected
        read = self.post_attention_layernorm(hidden)
        wrote = self.mlp(read)
        moves = (Move(normed, attention.projected), Move(read, wrote))
        return LayerOutput(hidden + wrote, attention, moves)


AfterLayer = Callable[[int, Tensor], Tensor]
"""Takes a layer's index and what it gives, ``(batch, tokens, width)``; returns what the next one is given."""


class Decoder(nn.Module):
    """Embedding table, layers, final norm; no language-model head.

    Source:
        Llama (2302.13971) as in transformers' ``LlamaModel``.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.width)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.norm = RmsNorm(config.width, config.norm_eps) if config.final_norm else nn.Identity()

    def forward(
        self,
        embeddings: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        order: Tensor | None = None,
        after: AfterLayer | None = None,
    ) -> Tensor:
        """Run every layer and the final norm.

        Args:
            embeddings: Tokens of the sequence, ``(batch, tokens, width)``.
            attention_mask: bool ``(batch, tokens)``, True = valid.
            position_ids: Rotary positions, int64 ``(batch, tokens)``, or ``(batch, 3, tokens)`` with rotary sections.
            order: int64 ``(batch, tokens)``: what causal attention compares; None = as they lie.
            after: Changes what a layer gives.

        Returns:
            Final states, ``(batch, tokens, width)``; rows of invalid tokens are meaningless.
        """
        rotary, bias = self.rotary(position_ids), self.attention_bias(attention_mask, order, order)
        hidden = embeddings
        for index, layer in enumerate(self.layers):
            hidden = layer(hidden, rotary, bias).hidden
            if after is not None:
                hidden = after(index, hidden)
        final: Tensor = self.norm(hidden)
        return final

    def rotary(self, position_ids: Tensor) -> Rotary:
        """Return the rotary tables of positions, int64 ``(batch, tokens)``, or ``(batch, 3, tokens)`` with sections."""
        half = self.config.head_dim // 2
        exponents = torch.arange(half, dtype=torch.float32, device=position_ids.device) / half
        if self.config.rope_sections and position_ids.dim() == 3:
            axes = torch.tensor(_rotary_axes(self.config), device=position_ids.device)
            turned = position_ids.index_select(1, axes).transpose(1, 2).unsqueeze(1)
        else:
            turned = position_ids[:, None, :, None]
        angles = turned.float() * (self.config.rope_theta**-exponents)
        cos, sin = angles.cos(), angles.sin()
        return Rotary(torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1))

    def attention_bias(
        self, attention_mask: Tensor, rows: Tensor | None = None, columns: Tensor | None = None
    ) -> Tensor:
        """Return what is added to attention logits: 0 where a key may be seen, else ``MASKED_LOGIT``.

        Args:
            attention_mask: bool ``(batch, keys)``, True = may be seen.
            rows: Order of the rows, int64 ``(batch, rows)``, if they are not the keys themselves as they lie.
            columns: Order of the keys, int64 ``(batch, keys)``; needed with ``rows``.

        Returns:
            float32 ``(batch, 1, 1, keys)``, or ``(batch, 1, rows, keys)`` if causal.
        """
        seen = attention_mask[:, None, None, :]
        if self.config.causal:
            if rows is None or columns is None:
                order = torch.arange(attention_mask.shape[1], device=attention_mask.device)
                seen = seen & (order[None, :] <= order[:, None])
            else:
                seen = seen & (columns[:, None, None, :] <= rows[:, None, :, None])
        return torch.where(seen, 0.0, MASKED_LOGIT)


def _rotary_axes(config: DecoderConfig) -> tuple[int, ...]:
    """Return for each frequency the axis that turns it: time 0, row 1, column 2."""
    sections = config.rope_sections
    if config.rope_interleaved:
        return tuple(step % 3 if step < 3 * sections[step % 3] else 0 for step in range(config.head_dim // 2))
    return tuple(axis for axis, length in enumerate(sections) for _ in range(length))


def repeat_heads(x: Tensor, group: int) -> Tensor:
    """(batch, kv_heads, ...) -> (batch, kv_heads * group, ...): each head ``group`` times in a row."""
    if group == 1:
        return x
    return x.unsqueeze(2).expand(-1, -1, group, -1, -1).flatten(1, 2)
