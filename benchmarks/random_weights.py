"""Random weights under given names, written shard by shard: never more than one shard is in memory.

Random weights say nothing about accuracy; size, names and files are what a published checkpoint has.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from saccade.export.loading.shards import INDEX_NAME

_WRITING = ("o_proj.weight", "out_proj.weight", "down_proj.weight", "attn.proj.weight", "mlp.fc2.weight")
"""Layers whose output is added to what came before."""


def draw(name: str, shape: tuple[int, ...], rng: np.random.Generator, *, depth: int) -> Tensor:
    """Draw a weight, uniform, so that activations neither vanish nor explode over ``depth`` layers; bfloat16."""
    bits = np.frombuffer(bytearray(rng.bytes(2 * math.prod(shape))), dtype=np.int16)
    drawn = torch.from_numpy(bits).to(torch.bfloat16).mul_(3**0.5 / 32768).reshape(shape)  # of deviation 1
    if len(shape) == 1 and name.endswith("weight"):
        return drawn.mul_(0.1).add_(1)  # a norm
    if len(shape) == 1 or name.endswith(("pos_embed", "_token", "embed_tokens.weight")):
        return drawn.mul_(0.02)
    writes = name.endswith(_WRITING)
    return drawn.mul_((math.prod(shape[1:]) * (2 * depth if writes else 1)) ** -0.5)


def write_shards(
    folder: Path,
    weights: Iterable[tuple[str, tuple[int, ...]]],
    shard_bytes: int,
    rng: np.random.Generator,
    *,
    change: Callable[[str, Tensor], None] = lambda name, weight: None,
) -> None:
    """Write safetensors and their index.

    Args:
        folder: Folder of the checkpoint.
        weights: Names and shapes of the weights.
        shard_bytes: Size from which on a shard is closed, bytes.
        rng: Generator that the weights are drawn from.
        change: Changes a weight, given by name, in place.
    """
    files: dict[str, str] = {}
    shard: dict[str, Tensor] = {}
    for name, shape in weights:
        shard[name] = draw(name, shape, rng, depth=32)
        change(name, shard[name])
        if sum(weight.nbytes for weight in shard.values()) >= shard_bytes:
            _close(folder, shard, files)
    if shard:
        _close(folder, shard, files)
    (folder / INDEX_NAME).write_text(json.dumps({"weight_map": files}))


def _close(folder: Path, shard: dict[str, Tensor], files: dict[str, str]) -> None:
    name = f"model-{len(set(files.values())) + 1:05}.safetensors"
    save_file(shard, folder / name)
    files |= dict.fromkeys(shard, name)
    shard.clear()
