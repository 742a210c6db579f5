"""Attention that keys receive from a few query rows, computed beside the fused attention.

A full attention map is never built: r rows cost r * tokens * width multiplications of one layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saccade.export.models.decoder import repeat_heads


def attention_received(query: Tensor, key: Tensor, bias: Tensor, row_weights: Tensor) -> Tensor:
    """Return softmax attention, averaged over heads and weighted query rows, in float32.

    Args:
        query: The chosen rows after rotary, ``(batch, heads, rows, head_dim)``.
        key: All keys after rotary, ``(batch, kv_heads, tokens, head_dim)``.
        bias: Added to the logits, ``(batch, 1, 1 or rows, tokens)``.
        row_weights: float32 ``(batch, rows)``, summing to 1; 0 for rows that are padding.

    Returns:
        float32 ``(batch, tokens)``; each row sums to 1.
    """
    key = repeat_heads(key, query.shape[1] // key.shape[1]).float()
    logits = (query.float() * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    weights = torch.softmax(logits + bias, dim=-1)
    # (batch, heads, 1, rows) @ (batch, heads, rows, tokens): the sum over rows is a matrix product.
    return (row_weights[:, None, None, :] @ weights).mean(dim=1).squeeze(1)
