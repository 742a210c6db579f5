"""Attention for training against PyTorch's own, with its gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from saccade.sim.training.fast_attention import fast_attention

BATCH, HEADS, ROWS, KEYS, HEAD_DIM = 3, 2, 5, 7, 4


def masks():
    seen = torch.rand(BATCH, 1, ROWS, KEYS) > 0.4
    seen[..., 0] = True
    one_for_all_rows = torch.where(seen[:, :, :1], 0.0, -30000.0)
    return {
        "none": None,
        "padding": one_for_all_rows,
        "each row": torch.randn(BATCH, 1, ROWS, KEYS),
        "bool": seen,
    }


@pytest.mark.parametrize("mask", ["none", "padding", "each row", "bool"])
@pytest.mark.parametrize("compiled", [False, True])
def test_it_is_attention_with_its_gradients(mask, compiled):
    torch.manual_seed(0)
    shapes = [(BATCH, ROWS, HEADS, HEAD_DIM), *[(BATCH, KEYS, HEADS, HEAD_DIM)] * 2]
    inputs = [torch.randn(shape).transpose(1, 2).requires_grad_() for shape in shapes]
    weight, seen = torch.randn(BATCH, HEADS, ROWS, HEAD_DIM), masks()[mask]

    def read(query, key, value):
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)

    expected = read(*inputs)
    gradients = torch.autograd.grad((expected * weight).sum(), inputs)
    with fast_attention():
        found = torch.compile(read, backend="aot_eager")(*inputs) if compiled else read(*inputs)
        found_gradients = torch.autograd.grad((found * weight).sum(), inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for each, wanted in zip(found_gradients, gradients, strict=True):
        torch.testing.assert_close(each, wanted, rtol=1e-5, atol=1e-5)


def test_outside_its_block_attention_is_pytorchs():
    own = functional.scaled_dot_product_attention
    with fast_attention():
        assert functional.scaled_dot_product_attention is not own
    assert functional.scaled_dot_product_attention is own
