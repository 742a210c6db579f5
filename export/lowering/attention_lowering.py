"""How fused attention is written in opset 20: five nodes, in the order that engines fuse.

torch's own translation scales query and key separately and moves the key through three-dimensional shapes; here the
query alone is scaled and the key transposed once, which ONNX Runtime merges into one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from onnxscript import opset20 as op

from saccade.proto.errors import ExportError


def attention(  # noqa: PLR0913, PLR0917 -- the signature of torch's operator
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Emit softmax(query @ key^T * scale + mask) @ value for ``(batch, heads, tokens, head_dim)``.

    Raises:
        ExportError: An option is set that our modules never use: masks are explicit, heads are repeated, nothing is
            dropped.
    """
    if is_causal or enable_gqa or dropout_p:
        raise ExportError(
            "expected attention with an explicit float mask, repeated heads and no dropout, found "
            f"is_causal={is_causal}, enable_gqa={enable_gqa}, dropout_p={dropout_p}; change the module."
        )
    if scale is None:
        scale = float(query.shape[-1]) ** -0.5
    factor: Any = op.Constant(value_float=scale)
    scaled = op.Mul(query, op.CastLike(factor, query))
    logits = op.MatMul(scaled, op.Transpose(key, perm=[0, 1, 3, 2]))
    if attn_mask is not None:
        logits = op.Add(logits, attn_mask)
    return op.MatMul(op.Softmax(logits, axis=-1), value)


LOWERINGS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.scaled_dot_product_attention.default: attention
}
