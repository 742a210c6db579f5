"""Attention heads removed from a decoder layer when the graph is built: smaller matrices, nothing left to compute."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from saccade.export.models.decoder import DecoderLayer
from saccade.proto.errors import ExportError


def without_heads(layer: DecoderLayer, removed: Sequence[int]) -> DecoderLayer:
    """Return a layer whose attention has fewer heads; all other weights are shared with ``layer``.

    With grouped queries all query heads of a key-value head go together.

    Args:
        layer: The whole layer, left as it is.
        removed: Indices of the query heads that go.

    Raises:
        ExportError: ``removed`` has heads that do not exist, all of them, or a part of a group.
    """
    config = layer.self_attn.config
    group = config.heads // config.kv_heads
    kept = [head for head in range(config.heads) if head not in set(removed)]
    kept_kv = sorted({head // group for head in kept})
    if not set(removed) <= set(range(config.heads)) or not kept or len(kept) != len(kept_kv) * group:
        raise ExportError(
            f"expected heads out of 0..{config.heads - 1} to remove, in whole groups of {group}, and at least one "
            f"group left, found {sorted(removed)}."
        )
    thin, attention = copy.copy(layer), copy.copy(layer.self_attn)
    thin._modules, attention._modules = dict(layer._modules), dict(layer.self_attn._modules)  # noqa: SLF001
    attention.config = replace(config, heads=len(kept), kv_heads=len(kept_kv))
    for name, heads in (("q_proj", kept), ("k_proj", kept_kv), ("v_proj", kept_kv)):
        attention._modules[name] = _rows(getattr(layer.self_attn, name), _channels(heads, config.head_dim))  # noqa: SLF001
    attention._modules["o_proj"] = _columns(layer.self_attn.o_proj, _channels(kept, config.head_dim))  # noqa: SLF001
    thin._modules["self_attn"] = attention  # noqa: SLF001
    return thin


def _channels(heads: Sequence[int], head_dim: int) -> Tensor:
    """Channel indices of some heads."""
    return (torch.tensor(heads).unsqueeze(1) * head_dim + torch.arange(head_dim)).flatten()


def _rows(linear: nn.Linear, channels: Tensor) -> nn.Linear:
    """A linear layer with some of the outputs."""
    bias = None if linear.bias is None else linear.bias[channels]
    return _linear(linear.weight[channels], bias)


def _columns(linear: nn.Linear, channels: Tensor) -> nn.Linear:
    """A linear layer with some of the inputs."""
    return _linear(linear.weight[:, channels], linear.bias)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    built = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    built.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        built.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return built
