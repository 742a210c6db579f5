"""What the tests of π0 and π0.5 share: the sizes of a tiny model, scenes in our words and the reference's, weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from saccade.export.families.deployment import Deployment
from saccade.export.families.flow import LayerMemory
from tests.export.families.published import HALF_PROCESSOR, normalised, pictures

IMAGE_ID, VIEWS, PATCHES, TEXT, CHUNK, STATE, ACTION = 96, 3, 16, 9, 5, 6, 7
WIDTH, EXPERT_WIDTH = 24, 16
"""Of prefix and expert; heads do not add up to either."""
DEPLOYMENT = Deployment(views=VIEWS, max_text_tokens=TEXT)
GEMMA = {"model_type": "gemma", "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 8}
TOWER = {
    "model_type": "siglip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 20,
    "patch_size": 5,
    "vision_use_head": False,
}


def vlm(kv_heads: int) -> dict[str, Any]:
    """Return the configuration of a tiny PaliGemma."""
    text = {"hidden_size": WIDTH, "intermediate_size": 40, "vocab_size": IMAGE_ID}
    return {
        "model_type": "paligemma",
        "text_config": {**GEMMA, **text, "num_key_value_heads": kv_heads},
        "vision_config": TOWER,
        "projection_dim": WIDTH,
        "image_token_id": IMAGE_ID,
    }


def expert(kv_heads: int) -> dict[str, Any]:
    """Return the configuration of a tiny expert."""
    sizes = {"hidden_size": EXPERT_WIDTH, "intermediate_size": 28, "vocab_size": IMAGE_ID}
    return {**GEMMA, **sizes, "num_key_value_heads": kv_heads}


class Scene:
    """Robots with cameras, prompts of several lengths, a state and noise; in the reference's words too."""

    def __init__(self, views: list[list[bool]], lengths: list[int], seed: int = 0) -> None:
        batch = len(views)
        generator = torch.Generator().manual_seed(seed)
        images = pictures(batch * VIEWS, 20, 20, seed)
        self.images = torch.from_numpy(images).unflatten(0, (batch, VIEWS))
        self.views, self.lengths = torch.tensor(views), torch.tensor(lengths)
        self.token_ids = torch.randint(3, 90, (batch, TEXT), generator=generator)
        self.token_ids[torch.arange(TEXT) >= self.lengths[:, None]] = 0
        self.state = torch.randn(batch, STATE, generator=generator)
        self.noise = torch.randn(batch, CHUNK, ACTION, generator=generator)
        self.pixels = normalised(images, HALF_PROCESSOR).unflatten(0, (batch, VIEWS))

    def for_reference(self) -> dict[str, Tensor]:
        """What transformers' processor makes of it: absent cameras have no token, all padding is on the right."""
        rows = [
            [IMAGE_ID] * PATCHES * int(here.sum()) + ids[:length].tolist()
            for here, ids, length in zip(self.views, self.token_ids, self.lengths, strict=True)
        ]
        longest = max(map(len, rows)) + 2
        return {
            "input_ids": torch.tensor([row + [0] * (longest - len(row)) for row in rows]),
            "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
            "pixel_values": self.pixels,
            "pixel_attention_mask": self.views,
        }


SCENES = {
    "all cameras": Scene([[True] * 3], [6]),
    "no wrist": Scene([[True, False, True]], [TEXT], seed=1),
    "only the last, and two robots": Scene([[False, False, True], [True, True, True]], [1, 7], seed=2),
}


def assert_memory(
    memory: Iterable[LayerMemory], mask: Tensor, theirs: Iterable[tuple[Tensor, Tensor, Tensor]]
) -> None:
    """Compare keys and values of every layer at valid tokens.

    Args:
        memory: Ours.
        mask: bool ``(batch, tokens)``: our valid tokens.
        theirs: Keys, values and mask of each layer.
    """
    for layer, (keys, values, valid) in zip(memory, theirs, strict=True):
        for ours, expected in ((layer.key, keys), (layer.value, values)):
            for robot in range(len(mask)):
                torch.testing.assert_close(
                    ours[robot][:, mask[robot]], expected[robot][:, valid[robot]], atol=1e-4, rtol=1e-4
                )


def rename_weights(folder: Path, changes: dict[str, str | None]) -> None:
    """Rewrite the file: a name that starts with a key starts with its value instead; None drops it."""
    path = folder / "model.safetensors"
    weights = {}
    for name, value in load_file(path).items():
        start = next((start for start in changes if name.startswith(start)), None)
        prefix = "" if start is None else changes[start]
        if prefix is not None:
            weights[prefix + name.removeprefix(start or "")] = value
    save_file(weights, path)
