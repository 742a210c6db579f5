"""Attention that trains fast on a CPU: one sample at a time, so that a head's probabilities stay in the cache.

PyTorch's own forms write every probability of a batch to memory several times (the plain form) or convert to float32
block by block (the fused form); for some hundred tokens both cost more than all matrix products of the layer together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional

_SHUT = -30000.0
"""Added to the logit of a key that may not be seen where the mask is boolean."""


@contextlib.contextmanager
def fast_attention() -> Iterator[None]:
    """Have :func:`torch.nn.functional.scaled_dot_product_attention` run through :func:`attend` inside the block."""
    with patch.object(functional, "scaled_dot_product_attention", _attend):
        yield


def _attend(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    if attn_mask is None:
        attn_mask = query.new_zeros(1, 1, 1, 1)
    if attn_mask.dtype == torch.bool:
        attn_mask = torch.where(attn_mask, 0.0, _SHUT)
    query = query * query.shape[-1] ** -0.5
    bias = attn_mask.to(query.dtype).expand(query.shape[0], 1, -1, key.shape[2])
    return attend(query.contiguous(), key.contiguous(), value.contiguous(), bias)[0]


@torch.library.custom_op("saccade_training::attend", mutates_args=())
def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Attend, and keep the probabilities for the backward pass.

    Args:
        query: Scaled queries, ``(batch, heads, rows, head_dim)``, contiguous.
        key: Keys, ``(batch, heads, keys, head_dim)``, contiguous.
        value: Values, ``(batch, heads, keys, head_dim)``, contiguous.
        bias: Added to the logits, ``(batch, 1, 1 or rows, keys)``, of the queries' dtype; takes no gradient.

    Returns:
        What each row reads, ``(batch, heads, rows, head_dim)``, and the probabilities ``(batch, heads, rows, keys)``.
    """
    read = torch.empty_like(query)
    probabilities = query.new_empty(*query.shape[:3], key.shape[2])
    for sample in range(query.shape[0]):
        added = bias[sample].expand(*query.shape[1:3], -1)
        logits = torch.baddbmm(added, query[sample], key[sample].transpose(1, 2))
        torch.softmax(logits, -1, out=probabilities[sample])
        torch.bmm(probabilities[sample], value[sample], out=read[sample])
    return read, probabilities


@attend.register_fake
def _shapes(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(query), query.new_empty(*query.shape[:3], key.shape[2])


@torch.library.custom_op("saccade_training::attend_backward", mutates_args=())
def attend_backward(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, probabilities: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of queries, keys and values, from that of what was read; all as in :func:`attend`."""
    gradient = gradient.contiguous()
    of_query, of_key, of_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    for sample in range(query.shape[0]):
        shares = probabilities[sample]
        torch.bmm(shares.transpose(1, 2), gradient[sample], out=of_value[sample])
        of_shares = torch.bmm(gradient[sample], value[sample].transpose(1, 2))
        of_logits = torch._softmax_backward_data(of_shares, shares, -1, shares.dtype)  # noqa: SLF001 - the one there is
        torch.bmm(of_logits, key[sample], out=of_query[sample])
        torch.bmm(of_logits.transpose(1, 2), query[sample], out=of_key[sample])
    return of_query, of_key, of_value


@attend_backward.register_fake
def _gradient_shapes(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, probabilities: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _keep(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]
) -> None:
    query, key, value, _bias = inputs
    ctx.save_for_backward(query, key, value, output[1])


def _backward(
    context: torch.autograd.function.FunctionCtx, gradient: Tensor, _of_probabilities: Tensor
) -> tuple[Tensor | None, ...]:
    query, key, value, probabilities = context.saved_tensors  # type: ignore[attr-defined]
    return *attend_backward(gradient, query, key, value, probabilities), None


attend.register_autograd(_backward, setup_context=_keep)
