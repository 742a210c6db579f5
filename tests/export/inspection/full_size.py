"""Configurations of published checkpoints, full size; nothing but what their ``config.json`` says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.export.families.published import CLIP_PROCESSOR, HALF_PROCESSOR

SIGLIP, DINOV2 = "vit_so400m_patch14_siglip_224", "vit_large_patch14_reg4_dinov2.lvd142m"
_BOUNDS = {"q01": [-1.0] * 7, "q99": [1.0] * 7, "mask": [True] * 7}


def openvla(folder: Path) -> Path:
    """OpenVLA-7B: two towers at 224 pixels, Llama-2."""
    config = {
        "model_type": "openvla",
        "arch_specifier": "no-align+fused-gelu-mlp",
        "use_fused_vision_backbone": True,
        "image_resize_strategy": "resize-naive",
        "image_sizes": [224, 224],
        "timm_model_ids": [DINOV2, SIGLIP],
        "timm_override_act_layers": [None, None],
        "llm_backbone_id": "llama2-7b-pure",
        "pad_token_id": 32000,
        "text_config": {"model_type": "llama", "pad_token_id": 32000, "vocab_size": 32064},
        "norm_stats": {"a": {"action": _BOUNDS}, "b": {"action": _BOUNDS}},
    }
    processor = {
        "image_resize_strategy": "resize-naive",
        "input_sizes": [[3, 224, 224]] * 2,
        "means": [[0.5] * 3] * 2,
        "stds": [[0.5] * 3] * 2,
    }
    return _write(folder, config, processor)


def openvla_oft(folder: Path) -> Path:
    """OpenVLA-OFT on LIBERO, in our own layout: two cameras, chunks of 8 x 7."""
    siglip = {"image_size": 224, "patch_size": 14, "width": 1152, "depth": 27, "heads": 16, "mlp_dim": 4304}
    dinov2 = {"image_size": 224, "patch_size": 14, "width": 1024, "depth": 24, "heads": 16, "mlp_dim": 4096}
    switches = {"class_token": True, "register_tokens": 4, "layer_scale": True, "activation": "gelu"}
    end = {"read_block": -2, "final_norm": False}
    config = {
        "model_type": "openvla_oft",
        "text_config": {"model_type": "llama", "vocab_size": 32064},
        "vision_towers": [{**dinov2, **switches, **end}, {**siglip, **end}],
        "oft": {
            "views": 2,
            "chunk": 8,
            "action_dim": 7,
            "proprio_dim": 8,
            "max_text_tokens": 30,
            "head_blocks": 2,
        },
    }
    return _write(folder, config)


def pi(folder: Path, family: str) -> Path:
    """π0 or π0.5 as lerobot writes it: sizes are those of the variants' names."""
    return _write(folder, {"type": family})


def smolvla(folder: Path) -> Path:
    """SmolVLA with three cameras."""
    cameras = {f"observation.images.{name}": {"type": "VISUAL", "shape": [3, 256, 256]} for name in "abc"}
    config = {
        "type": "smolvla",
        "input_features": {**cameras, "observation.state": {"type": "STATE", "shape": [6]}},
        "output_features": {"action": {"type": "ACTION", "shape": [6]}},
    }
    return _write(folder, config)


def llava(folder: Path) -> Path:
    """LLaVA-1.5-7B."""
    fixed = {"do_resize": True, "do_center_crop": True, "resample": 3, "rescale_factor": 1 / 255}
    size = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
    config = {"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32064}}
    return _write(folder, config, {**CLIP_PROCESSOR, **fixed, **size})


def llava_video(folder: Path) -> Path:
    """LLaVA-Video-7B, converted: SigLIP at 384 pixels, Qwen2-7B."""
    text = {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
    }
    fixed = {
        "do_resize": True,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": 384, "width": 384},
    }
    config = {"model_type": "llava_onevision", "text_config": text, "mm_newline_position": "grid"}
    return _write(folder, config, {**HALF_PROCESSOR, **fixed})


def _write(folder: Path, config: dict[str, Any], processor: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder
