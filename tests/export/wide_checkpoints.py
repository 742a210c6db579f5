"""Checkpoints of random weights for every way a family is loaded: small but for a few wide layers of the decoder.

Each writer takes the folder and the decoder's width.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.random_llava import write_random_llava
from benchmarks.random_oft import weight_shapes
from benchmarks.random_pi import write_random_pi
from benchmarks.random_weights import write_shards
from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import write_embodiment
from saccade.export.families.openvla_oft.config import write_config
from saccade.export.families.pi import pi0, pi05
from saccade.export.families.smolvla import config as smolvla_config
from saccade.export.families.smolvla import model as smolvla
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.shards import WEIGHTS_NAME
from tests.export.samples import CONFIG, EMBODIMENT, write_tiny_checkpoint, write_tokenizer

SHARD_BYTES = 48_000_000
WIDTH = 2048
"""Wide enough that ONNX Runtime maps the weights of a bundle."""
TOWER = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 20,
    "patch_size": 5,
}


def text(width: int) -> dict[str, int]:
    """The decoder as ``config.json`` has it."""
    heads = {"num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": width // 16}
    mlp = width * 11 // 4
    return {"hidden_size": width, "intermediate_size": mlp, "num_hidden_layers": 3, "vocab_size": 96, **heads}


def write_wide_oft(folder: Path, width: int) -> None:
    sizes = replace(
        CONFIG.decoder,
        width=width,
        heads=16,
        kv_heads=16,
        head_dim=width // 16,
        mlp_dim=width * 11 // 4,
    )
    wide = replace(CONFIG, decoder=sizes)
    write_tiny_checkpoint(folder)
    (folder / WEIGHTS_NAME).unlink()
    write_config(wide, folder)
    write_shards(folder, weight_shapes(wide), SHARD_BYTES, np.random.default_rng(0))


def write_wide_pi(family: ModuleType, folder: Path, width: int) -> None:
    gemma = {"model_type": "gemma", **text(width), "intermediate_size": width * 13 // 4}
    config = {
        "chunk_size": 4,
        "num_inference_steps": 2,
        "tokenizer_max_length": 32,
        "vlm_config": {
            "model_type": "paligemma",
            "text_config": gemma,
            "vision_config": {"model_type": "siglip_vision_model", **TOWER},
        },
        "dit_config": {**gemma, "hidden_size": width // 4, "intermediate_size": width // 2},
    }
    write_random_pi(folder, family, config, views=1, shard_bytes=SHARD_BYTES)


def write_wide_smolvla(folder: Path, width: int) -> None:
    folder.mkdir()
    action, state = (3,), (2,)
    config = {
        "type": "smolvla",
        "input_features": {
            "observation.images.scene": {"type": "VISUAL", "shape": [3, 20, 20]},
            "observation.state": {"type": "STATE", "shape": state},
        },
        "output_features": {"action": {"type": "ACTION", "shape": action}},
        "chunk_size": EMBODIMENT.action.chunk,
        "num_steps": 2,
        "resize_imgs_with_padding": [20, 20],
        "expert_width_multiplier": 0.25,
    }
    backbone = {
        "model_type": "smolvlm",
        "vision_config": {"model_type": "smolvlm_vision", **TOWER},
        "text_config": {"model_type": "llama", **text(width)},
    }
    _write(folder, "config", config)
    _write(folder, "backbone_config", backbone)
    for file, step, kind, vector, shape in (
        ("policy_preprocessor", "normalizer_processor", "STATE", "observation.state", state),
        ("policy_postprocessor", "unnormalizer_processor", "ACTION", "action", action),
    ):
        settings = {"norm_map": {kind: "MEAN_STD"}}
        state_file = f"{file}.safetensors"
        entry = {"registry_name": step, "config": settings, "state_file": state_file}
        _write(folder, file, {"steps": [entry]})
        scale = {f"{vector}.mean": torch.zeros(shape), f"{vector}.std": torch.ones(shape)}
        save_file(scale, folder / state_file)
    embodiment = replace(EMBODIMENT, views=("scene",), template="", statistics_key="")
    write_embodiment(embodiment, folder)
    write_tokenizer(folder)
    model = smolvla.build(
        smolvla_config.read_config(CheckpointFolder(folder), Deployment(views=1, max_text_tokens=8))
    )
    shapes = ((name, tuple(weight.shape)) for name, weight in model.state_dict().items())
    write_shards(folder, shapes, SHARD_BYTES, np.random.default_rng(0))


def write_wide_llava(folder: Path, width: int) -> None:
    tower = {**TOWER, "num_hidden_layers": 3}
    write_random_llava(folder, text=text(width), tower=tower, shard_bytes=SHARD_BYTES)


WIDE: dict[str, Callable[[Path, int], object]] = {
    "openvla_oft": write_wide_oft,
    "pi0": partial(write_wide_pi, pi0),
    "pi05": partial(write_wide_pi, pi05),
    "smolvla": write_wide_smolvla,
    "llava": write_wide_llava,
}


def _write(folder: Path, name: str, content: object) -> None:
    (folder / f"{name}.json").write_text(json.dumps(content))
