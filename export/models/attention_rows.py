"""Attention that keys receive from a few query rows, computed beside the fused attention.

r rows cost r * tokens * width multiplications of one layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saccade.export.models.decoder import repeat_heads


def attention_weights(query: Tensor, key: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return softmax attention of some rows, head by head, in float32.

    Args:
        query: The chosen rows, ``(batch, heads, rows, head_dim)``.
        key: All keys, ``(batch, kv_heads, keys, head_dim)``.
        bias: Added to the logits, float32 ``(batch, 1, 1 or rows, keys)``; None = nothing.

    Returns:
        float32 ``(batch, heads, rows, keys)``; each row sums to 1.
    """
    logits = scaled_logits(query, key)
    return torch.softmax(logits if bias is None else logits + bias, dim=-1)


def attention_received(query: Tensor, key: Tensor, bias: Tensor | None, row_weights: Tensor) -> Tensor:
    """Return softmax attention, averaged over heads and weighted query rows, in float32.

    Args:
        query: The chosen rows, ``(batch, heads, rows, head_dim)``.
        key: All keys, ``(batch, kv_heads, keys, head_dim)``.
        bias: Added to the logits, float32 ``(batch, 1, 1 or rows, keys)``; None = nothing.
        row_weights: Weight of each row, float32 ``(batch, rows)``, summing to 1; 0 for rows that are padding.

    Returns:
        float32 ``(batch, keys)``; each row sums to 1.
    """
    weights = attention_weights(query, key, bias)
    # (batch, heads, 1, rows) @ (batch, heads, rows, keys): the sum over rows is a matrix product.
    return (row_weights[:, None, None, :] @ weights).mean(dim=1).squeeze(1)


def attention_by_row(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    """Return softmax attention averaged over heads, float32 ``(batch, rows, keys)``."""
    return attention_weights(query, key, bias).mean(dim=1)


def mean_logits(query: Tensor, key: Tensor, row_weights: Tensor, seen: Tensor | None = None) -> Tensor:
    """Return the scaled logits averaged over heads and weighted rows, float32 ``(batch, keys)``.

    Args:
        query: The chosen rows, ``(batch, heads, rows, head_dim)``.
        key: All keys, ``(batch, kv_heads, keys, head_dim)``.
        row_weights: Weight of each row, float32 ``(batch, rows)``, summing to 1; 0 for rows that are padding.
        seen: float32 ``(batch, rows, keys)``, 0 where a row's logit counts as 0; None = every logit counts.
    """
    logits = scaled_logits(query, key)
    if seen is not None:
        logits = logits * seen.unsqueeze(1)
    return (row_weights[:, None, None, :] @ logits).mean(dim=1).squeeze(1)


def scaled_logits(query: Tensor, key: Tensor) -> Tensor:
    """Return query @ key^T / sqrt(head_dim), float32 ``(batch, heads, rows, keys)``."""
    key = repeat_heads(key, query.shape[1] // key.shape[1]).float()
    return (query.float() * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
