"""Tiny checkpoints of published families, written by the classes of transformers themselves, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Draw every weight anew: norms and biases too, whose ones and zeros would hide that they are not read."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = "norm" in name and parameter.dim() == 1
            scale = 0.2 if is_norm or parameter.dim() == 1 else 1.0 / max(parameter.shape[-1], 1) ** 0.5
            drawn = torch.randn(parameter.shape, generator=generator) * scale
            parameter.copy_(drawn + (1.0 if is_norm and name.endswith("weight") else 0.0))


def save(model: Any, folder: Path, processor: dict[str, Any]) -> Path:
    """Write a checkpoint as ``save_pretrained`` does, and the image processor's file beside it."""
    model.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return folder


CLIP_PROCESSOR = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "do_normalize": True,
    "do_rescale": True,
}
HALF_PROCESSOR = {**CLIP_PROCESSOR, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def pictures(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return random pictures, uint8 ``(count, height, width, 3)``."""
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def normalised(images: NDArray[np.uint8], processor: dict[str, Any]) -> torch.Tensor:
    """Return what the reference's processor makes of pictures of the right size, float32 ``(count, 3, h, w)``."""
    mean, std = np.array(processor["image_mean"]), np.array(processor["image_std"])
    scaled = (images / 255.0 - mean) / std
    return torch.from_numpy(scaled.astype(np.float32)).permute(0, 3, 1, 2).contiguous()
