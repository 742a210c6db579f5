"""Writes tiny OpenVLA and OpenVLA-OFT checkpoints with timm's own towers, and beside each what they compute.

    .venv-lerobot/bin/python tests/lerobot/write_reference.py prismatic FOLDER

Towers are timm's, the language model is transformers' ``LlamaForCausalLM``; what joins them is the published model's
code in our words (:mod:`tests.export.families.prismatic_reference`). README.md says which environment.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))
import declared_operators  # noqa: F401
import timm

from tests.export.families.oft_reference import ReferenceOft, write_published
from tests.export.families.prismatic_reference import OVERRIDES, SIDE, Reference, statistics, write
from tests.export.families.published import pictures

QUESTIONS = ([11, 12, 13, 29871], [50, 29871], [3, 4, 5, 6, 7, 8, 9, 29871])
ACTION_DIM, PROPRIO_DIM, CHUNK = 7, 8, 8


class TimmTower(nn.Module):
    """A published tower with few and narrow blocks."""

    def __init__(self, name: str) -> None:
        super().__init__()
        sizes = OVERRIDES[name]
        self.model: Any = timm.create_model(
            name,
            pretrained=False,
            num_classes=0,
            img_size=SIDE,
            patch_size=sizes["patch_size"],
            embed_dim=sizes["width"],
            depth=sizes["depth"],
            num_heads=sizes["heads"],
            mlp_ratio=sizes["mlp_dim"] / sizes["width"],
        )
        assert self.model.blocks[0].mlp.fc1.out_features == sizes["mlp_dim"]
        self.before_last = sizes["depth"] - 2

    def forward(self, pixels: Tensor) -> Tensor:
        """The patches, as the published code asks for them."""
        found: Tensor = self.model.get_intermediate_layers(pixels, n={self.before_last})[0]
        return found

    def published(self) -> dict[str, Tensor]:
        """Its weights; the published code renames the layer scales, which had a name that transformers replaced."""
        weights = self.model.state_dict()
        return {name.replace(".gamma", ".scale_factor"): weight for name, weight in weights.items()}


def openvla(folder: Path) -> None:
    """Write OpenVLA; images ``(questions, side, side, 3)``, logits of every token of each question."""
    model = Reference(seed=3, tower=TimmTower)
    write(model, folder, {"bridge": statistics(7, 7)})
    images = pictures(len(QUESTIONS), SIDE, SIDE)
    computed: dict[str, Any] = {"images": images}
    for number, question in enumerate(QUESTIONS):
        visual = model.visual(images[number : number + 1])
        embedded = torch.cat([model.embedded([1]), visual, model.embedded(question)], dim=1)
        said = model.llama(inputs_embeds=embedded, output_hidden_states=True)
        computed |= {
            f"ids_{number}": question,
            f"visual_{number}": visual,
            f"states_{number}": said.hidden_states[-1],
            f"logits_{number}": said.logits,
        }
    np.savez(folder / "oracle.npz", **computed)


def openvla_oft(folder: Path) -> None:
    """Write OpenVLA-OFT of two views; its normalised actions for each prompt."""
    model = ReferenceOft(ACTION_DIM, PROPRIO_DIM, tower=TimmTower)
    write_published(model, folder, {"libero": statistics(ACTION_DIM, PROPRIO_DIM)})
    generator = torch.Generator().manual_seed(1)
    computed: dict[str, Any] = {}
    for number, prompt in enumerate(QUESTIONS):
        images, proprio = pictures(2, SIDE, SIDE, number), torch.rand(1, PROPRIO_DIM, generator=generator)
        computed |= {
            f"ids_{number}": prompt,
            f"images_{number}": images,
            f"proprio_{number}": proprio,
            f"actions_{number}": model.actions(images, proprio, prompt, CHUNK),
        }
    np.savez(folder / "oracle.npz", **computed)


def write_prismatic(folder: Path) -> None:
    """Write both."""
    with torch.inference_mode():
        openvla(folder / "openvla")
        openvla_oft(folder / "openvla_oft")
