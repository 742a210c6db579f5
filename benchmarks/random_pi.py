"""Checkpoints of π0 and π0.5 with random weights, written shard by shard, with the files that transformers writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from benchmarks.random_weights import write_shards
from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import Embodiment, write_embodiment
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.manifest import ActionSpec, LimitsSpec, VectorSpec

STATE = 8
_ACTION, _CHUNK, _WORDS = 7, 50, ("<pad>", "<eos>", "<bos>", "push", "the", "red", "block", "to", "zone")

_PIXELS = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_normalize": True, "do_rescale": True}


def write_random_pi(
    folder: Path,
    family: ModuleType,
    config: Mapping[str, Any],
    *,
    views: int,
    shard_bytes: int,
    seed: int = 0,
) -> Path:
    """Write the checkpoint, bfloat16; never more than one shard is in memory.

    Args:
        folder: Folder of the checkpoint, made here.
        family: Module of the family, pi0 or pi05 of :mod:`saccade.export.families.pi`.
        config: Fields of ``config.json`` that differ from the published model's.
        views: Number of cameras.
        shard_bytes: Size from which on a shard is closed, bytes.
        seed: Seed of the weights.
    """
    folder.mkdir(parents=True)
    scales = {
        f"{part}_{name}": [value] * dim
        for part, dim in (("state", STATE), ("actions", _ACTION))
        for name, value in (("mean", 0.0), ("std", 1.0))
    }
    for name, content in (
        ("config", {"model_type": family.MODEL_TYPE, "chunk_size": _CHUNK, **config}),
        ("processor_config", {**scales, "image_processor": _PIXELS}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))
    tokenizer = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(_WORDS)}, unk_token=_WORDS[0])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    write_embodiment(_embodiment(views, int(config.get("chunk_size", _CHUNK))), folder)
    model = family.build(
        family.read_config(CheckpointFolder(folder), Deployment(views=views, max_text_tokens=48))
    )
    shapes = ((name, tuple(weight.shape)) for name, weight in model.state_dict().items())
    write_shards(folder, shapes, shard_bytes, np.random.Generator(np.random.SFC64(seed)))
    return folder


def write_random_frames(path: Path, *, views: int, image_px: int, frames: int) -> None:
    """Write a recording of noise that fits a checkpoint of :func:`write_random_pi`."""
    rng = np.random.default_rng(0)
    np.savez(
        path,
        images=rng.integers(0, 256, (frames, views, image_px, image_px, 3), dtype=np.uint8),
        proprio=rng.uniform(-1, 1, (frames, STATE)).astype(np.float32),
        instruction=np.array(["push the red block"] * frames),
    )


def _embodiment(views: int, chunk: int) -> Embodiment:
    names, state = (tuple(f"x{number}" for number in range(dim)) for dim in (_ACTION, STATE))
    return Embodiment(
        name="random-pi",
        license="Apache-2.0",
        views=tuple(f"camera{number}" for number in range(views)),
        proprio=VectorSpec(state, ("m",) * STATE),
        action=ActionSpec(names, ("m",) * _ACTION, chunk, 20.0, "delta_ee"),
        limits=LimitsSpec((-9.0,) * _ACTION, (9.0,) * _ACTION, (99.0,) * _ACTION),
    )
