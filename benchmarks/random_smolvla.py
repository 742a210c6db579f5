"""A SmolVLA checkpoint in lerobot's layout with random weights, written shard by shard.

Random weights say nothing about accuracy; size, names and files are what a published checkpoint has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from benchmarks.random_weights import write_shards
from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import Embodiment, write_embodiment
from saccade.export.families.smolvla.config import (
    BACKBONE_NAME,
    BACKBONES,
    DEFAULTS,
    SmolVlaConfig,
    read_config,
)
from saccade.export.families.smolvla.model import build
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.manifest import ActionSpec, LimitsSpec, VectorSpec

_STATE, _ACTION = 8, 7
_WORDS = ("<pad>", "<unk>", "push", "the", "red", "block", "to", "zone")
_IDENTITY = {"eps": 1e-8, "norm_map": {"VISUAL": "IDENTITY", "STATE": "IDENTITY", "ACTION": "IDENTITY"}}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is large or small about a checkpoint; the defaults are the published one's.

    Args:
        config: Fields of ``config.json`` that differ from lerobot's defaults.
        text: Fields of the backbone's ``text_config`` that differ from the published one's.
        vision: Fields of its ``vision_config`` that differ.
        views: Number of cameras.
        shard_bytes: Size from which on a shard is closed, bytes.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    text: Mapping[str, Any] = field(default_factory=dict)
    vision: Mapping[str, Any] = field(default_factory=dict)
    views: int = 2
    shard_bytes: int = 2_000_000_000


def write_random_smolvla(folder: Path, shape: Shape, *, seed: int = 0) -> Path:
    """Write the checkpoint; never more than one shard is in memory.

    Args:
        folder: Folder of the checkpoint, made here.
        shape: What is large or small about it.
        seed: Seed of the weights.
    """
    config = write_configuration(folder, shape)
    weights = ((name, tuple(weight.shape)) for name, weight in build(config).state_dict().items())
    write_shards(folder, weights, shape.shard_bytes, np.random.Generator(np.random.SFC64(seed)))
    return folder


def write_configuration(folder: Path, shape: Shape) -> SmolVlaConfig:
    """Write every file but the weights, and return what they describe."""
    folder.mkdir(parents=True)
    backbone = json.loads(json.dumps(BACKBONES[str(DEFAULTS["vlm_model_name"])]))
    backbone["text_config"] |= shape.text
    backbone["vision_config"] |= shape.vision
    side = backbone["vision_config"]["image_size"]
    cameras = tuple(f"camera{number}" for number in range(shape.views))
    picture = {"type": "VISUAL", "shape": [3, side, side]}
    config: dict[str, Any] = {
        "type": "smolvla",
        "input_features": {
            "observation.state": {"type": "STATE", "shape": [_STATE]},
            **{f"observation.images.{camera}": picture for camera in cameras},
        },
        "output_features": {"action": {"type": "ACTION", "shape": [_ACTION]}},
        "resize_imgs_with_padding": [side, side],
        **shape.config,
    }
    new_line = {"registry_name": "smolvla_new_line_processor", "config": {}}
    for file, content in (
        ("config.json", config),
        (BACKBONE_NAME, backbone),
        (
            "policy_preprocessor.json",
            {"steps": [new_line, {"registry_name": "normalizer_processor", "config": _IDENTITY}]},
        ),
        (
            "policy_postprocessor.json",
            {"steps": [{"registry_name": "unnormalizer_processor", "config": _IDENTITY}]},
        ),
    ):
        (folder / file).write_text(json.dumps(content))
    vocabulary = {word: number for number, word in enumerate(_WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_WORDS[1]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    actions, state = (tuple(f"x{number}" for number in range(dim)) for dim in (_ACTION, _STATE))
    chunk = int(shape.config.get("chunk_size", DEFAULTS["chunk_size"]))
    embodiment = Embodiment(
        name="random-smolvla",
        license="Apache-2.0",
        views=cameras,
        proprio=VectorSpec(state, ("m",) * _STATE),
        action=ActionSpec(actions, ("m",) * _ACTION, chunk, 30.0, "delta_ee"),
        limits=LimitsSpec((-9.0,) * _ACTION, (9.0,) * _ACTION, (99.0,) * _ACTION),
    )
    write_embodiment(embodiment, folder)
    deployment = Deployment(views=shape.views, image_size=(side, side), max_text_tokens=48)
    return read_config(CheckpointFolder(folder), deployment)
