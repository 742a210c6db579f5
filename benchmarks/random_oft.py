"""An OpenVLA-OFT checkpoint in the published layout with random weights, written shard by shard.

Random weights say nothing about accuracy; size, names and files are what a published checkpoint has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from benchmarks.random_weights import draw, write_shards
from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import Embodiment, write_embodiment
from saccade.export.families.openvla_oft.config import OftConfig
from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.export.families.openvla_oft.published import read_published
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.models.action_head import ActionHead, MlpProjector
from saccade.proto.manifest import ActionSpec, LimitsSpec, VectorSpec

HEADS = ("action_head", "proprio_projector")
_KEY = "random"
_ACTION, _PROPRIO, _CHUNK = 7, 8, 8
_VOCABULARY = 32064


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is large or small about a checkpoint; the defaults are the published one's.

    Args:
        text: Fields of ``text_config`` that differ from Llama-2-7B's.
        towers: Dimensions that differ from timm's, for each tower.
        image_px: Side of an image, pixels.
        views: Number of cameras.
        shard_bytes: Size from which on a shard is closed, bytes.
    """

    text: Mapping[str, int]
    towers: tuple[Mapping[str, int], Mapping[str, int]] = ({}, {})
    image_px: int = 224
    views: int = 1
    shard_bytes: int = 2_000_000_000


def write_random_oft(folder: Path, shape: Shape, *, seed: int = 0) -> Path:
    """Write the checkpoint, its large weights in bfloat16; never more than one shard is in memory."""
    folder.mkdir(parents=True)
    rng = np.random.Generator(np.random.SFC64(seed))
    write_configuration(folder, shape)
    write_tokenizer(folder)
    width = int(shape.text.get("hidden_size", 4096))
    with torch.device("meta"):
        heads = {
            "action_head": ActionHead(width, _ACTION),
            "proprio_projector": MlpProjector(_PROPRIO, width, width),
        }
    for name, head in heads.items():
        drawn = {
            key: draw(key, tuple(weight.shape), rng, depth=1) for key, weight in head.state_dict().items()
        }
        torch.save(drawn, folder / f"{name}--latest_checkpoint.pt")
    config = read_published(CheckpointFolder(folder), Deployment(views=shape.views)).config
    write_shards(folder, _published(config), shape.shard_bytes, rng)
    return folder


def write_random_frames(path: Path, shape: Shape, frames: int) -> Path:
    """Write a recording of noise that fits the checkpoint."""
    rng = np.random.default_rng(0)
    size = (frames, shape.views, shape.image_px, shape.image_px, 3)
    np.savez(
        path,
        images=rng.integers(0, 256, size, dtype=np.uint8),
        proprio=rng.uniform(0, 1, (frames, _PROPRIO)).astype(np.float32),
        instruction=np.array(["push the red block", "push the block to the zone"] * frames)[:frames],
    )
    return path


def weight_shapes(config: OftConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield names and shapes of a model's weights."""
    with torch.device("meta"):
        model = OpenVlaOft(config)
    yield from ((name, tuple(weight.shape)) for name, weight in model.state_dict().items())


def _published(config: OftConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield what lies in the safetensors: without the heads, and with a language-model head that nobody uses."""
    yield from (item for item in weight_shapes(config) if not item[0].startswith(HEADS))
    yield "language_model.lm_head.weight", (config.decoder.vocab_size, config.decoder.width)


def write_configuration(folder: Path, shape: Shape) -> None:
    """Write every file but the weights and the tokenizer."""
    config: dict[str, Any] = {
        "model_type": "openvla",
        "arch_specifier": "no-align+fused-gelu-mlp",
        "hf_llm_id": "meta-llama/Llama-2-7b-hf",
        "image_resize_strategy": "resize-naive",
        "image_sizes": [shape.image_px] * 2,
        "llm_backbone_id": "llama2-7b-pure",
        "n_action_bins": 256,
        "pad_to_multiple_of": 64,
        "pad_token_id": 32000,
        "text_config": {"model_type": "llama", "vocab_size": _VOCABULARY, **shape.text},
        "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
        "timm_override_act_layers": [None, None],
        "use_fused_vision_backbone": True,
        "vision_towers": [dict(tower) for tower in shape.towers],
    }
    processor = {
        "image_resize_strategy": "resize-naive",
        "input_sizes": [[3, shape.image_px, shape.image_px]] * 2,
        "means": [[0.485, 0.456, 0.406], [0.5, 0.5, 0.5]],
        "stds": [[0.229, 0.224, 0.225], [0.5, 0.5, 0.5]],
        "tvf_do_letterbox": False,
    }
    spans = {
        part: {"q01": [-1.0] * dim, "q99": [1.0] * dim}
        for part, dim in (("action", _ACTION), ("proprio", _PROPRIO))
    }
    for file, content in (
        ("config.json", config),
        ("preprocessor_config.json", processor),
        ("statistics.json", {_KEY: spans}),
    ):
        (folder / file).write_text(json.dumps(content))
    action, proprio = (tuple(f"x{index}" for index in range(dim)) for dim in (_ACTION, _PROPRIO))
    embodiment = Embodiment(
        name="random-oft",
        license="Apache-2.0",
        views=tuple(f"camera{number}" for number in range(shape.views)),
        proprio=VectorSpec(proprio, ("m",) * _PROPRIO),
        action=ActionSpec(action, ("m",) * _ACTION, _CHUNK, 20.0, "delta_ee"),
        limits=LimitsSpec((-9.0,) * _ACTION, (9.0,) * _ACTION, (99.0,) * _ACTION),
        template="In: {instruction} Out: ",
        statistics_key=_KEY,
    )
    write_embodiment(embodiment, folder)


def write_tokenizer(folder: Path) -> None:
    """Write a few words, and the lone space where Llama has it: at the end of a text."""
    space = "\N{LOWER ONE EIGHTH BLOCK}"
    words = ("<unk>", "In:", "Out:", "push", "the", "red", "block", "to", "zone")
    vocabulary = {**{word: index for index, word in enumerate(words)}, space: 29871}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=words[0]))
    tokenizer.normalizer = normalizers.Replace(Regex(" $"), f" {space}")
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
