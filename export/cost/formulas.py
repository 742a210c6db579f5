"""What a model costs, by formula: multiply-accumulates, weights read, keys and values.

Conventions:

* One MAC is one multiplication and one addition of a matrix product. VLA-Pruner and TransPrune print MACs under the
  name FLOPs, VFlowOpt prints twice as many. Norms, softmax, activations and rotary embedding are not counted.
* Everything is counted that the graph computes: padding, and keys that a mask hides. The batch is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from saccade.export.models.decoder import DecoderConfig
from saccade.export.models.vision_tower import TowerConfig


class LayerTokens(NamedTuple):
    """Tokens of one decoder layer; the three numbers are one unless rows are left out or keys come from elsewhere.

    Args:
        rows: Tokens whose output is computed.
        computed: Tokens whose keys and values are computed.
        keys: Tokens that are attended to.
    """

    rows: int
    computed: int
    keys: int


def decoder_layer_macs(config: DecoderConfig, tokens: LayerTokens) -> int:
    """Return the MACs of one decoder layer.

    With as many key heads as query heads and n tokens in all three places this is the papers'
    ``4 n d^2 + 2 n^2 d + 3 n d m``.
    """
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    projections = 2 * config.width * (tokens.rows * queries + tokens.computed * keys)
    attention = 2 * tokens.rows * tokens.keys * queries
    return projections + attention + 3 * tokens.rows * config.width * config.mlp_dim


def decoder_layer_weights(config: DecoderConfig, rows: int = 1) -> int:
    """Return the number of parameters of one decoder layer that are read.

    Args:
        config: Switches of the decoder that the layer is of.
        rows: Number of tokens whose output is computed; with none, keys and values are all that is made.
    """
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    bias, norm = int(config.qkv_bias), config.head_dim * config.qk_norm
    made = 2 * config.width * keys + 2 * keys * bias + config.width + norm
    if not rows:
        return made
    asked = 2 * config.width * queries + queries * bias + norm
    return made + asked + config.width + 3 * config.width * config.mlp_dim


def layer_kv_bytes(config: DecoderConfig, tokens: int, bytes_per_value: int) -> int:
    """Return the size of one layer's keys and values of ``tokens`` tokens."""
    return 2 * config.kv_heads * config.head_dim * tokens * bytes_per_value


def tower_macs(
    config: TowerConfig, pictures: int, alive: Sequence[int], encoded: Sequence[int] | None = None
) -> int:
    """Return the MACs of a vision tower.

    Args:
        config: Switches of the tower.
        pictures: Number of pictures that go through the tower.
        alive: Patches of a picture that each block sees, for each block that runs.
        encoded: Patches of a picture that each block computes; None = those that it sees.
    """
    width = config.width
    total = config.patches * config.patch_values * width
    for block, (patches, own) in enumerate(zip(alive, alive if encoded is None else encoded, strict=True)):
        tokens, seen = own + config.prefix_tokens, patches + config.prefix_tokens
        total += tokens * (4 * width**2 + config.mlp_products)
        # Where some are computed beside what others left, every patch attends to all.
        pairs = config.attended_pairs(block, patches)
        total += 2 * width * (pairs if own == patches else pairs // seen * tokens)
    return pictures * total


def products(module: nn.Module) -> int:
    """Return the MACs of the linear layers of a module for one row."""
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear))


def parameters(module: nn.Module) -> int:
    """Return the number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())
