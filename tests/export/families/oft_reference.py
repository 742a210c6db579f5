"""OpenVLA-OFT beside :mod:`prismatic_reference`: head, proprioception and attention without order, as published."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.export.families.prismatic_reference import (
    PATCHES,
    WIDTH,
    Reference,
    TransformersTower,
    statistics,
    write,
)
from tests.export.families.published import randomise


class ReferenceHead(nn.Module):
    """The published head, as its module tree has it."""

    def __init__(self, action_dim: int, blocks: int) -> None:
        super().__init__()
        self.model = nn.ModuleDict({
            "layer_norm1": nn.LayerNorm(WIDTH * action_dim),
            "fc1": nn.Linear(WIDTH * action_dim, WIDTH),
            "mlp_resnet_blocks": nn.ModuleList(
                nn.ModuleDict({"ffn": nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.ReLU())})
                for _ in range(blocks)
            ),
            "layer_norm2": nn.LayerNorm(WIDTH),
            "fc2": nn.Linear(WIDTH, action_dim),
        })  # fmt: skip

    def forward(self, states: Tensor, chunk: int) -> Tensor:
        x = states.reshape(1, chunk, -1)
        x = functional.relu(self.model["fc1"](self.model["layer_norm1"](x)))
        for block in self.model["mlp_resnet_blocks"]:  # type: ignore[attr-defined]
            x = block["ffn"](x) + x
        return self.model["fc2"](self.model["layer_norm2"](x))


class ReferenceOft(Reference):
    """The reference with head and proprioception; every token sees every token."""

    def __init__(
        self,
        action_dim: int,
        proprio_dim: int,
        blocks: int = 2,
        tower: Callable[[str], nn.Module] = TransformersTower,
    ) -> None:
        super().__init__(seed=5, tower=tower)
        self.action_dim = action_dim
        self.head = ReferenceHead(action_dim, blocks)
        self.proprio = nn.ModuleDict({"fc1": nn.Linear(proprio_dim, WIDTH), "fc2": nn.Linear(WIDTH, WIDTH)})
        randomise(self.head, 1)
        randomise(self.proprio, 2)
        self.eval()

    def actions(self, images: Any, proprio: Tensor, prompt: list[int], chunk: int) -> Tensor:
        """Normalised actions ``(1, chunk, action_dim)``: read from the last prompt token on."""
        answer = chunk * self.action_dim
        state = self.proprio["fc2"](functional.gelu(self.proprio["fc1"](proprio)))[:, None]
        parts = [
            self.embedded([1]),
            self.visual(images),
            state,
            self.embedded(prompt),
            torch.zeros(1, answer, WIDTH),
            self.embedded([2]),
        ]
        embedded = torch.cat(parts, dim=1)
        tokens = embedded.shape[1]
        everything = torch.zeros(1, 1, tokens, tokens)
        hidden = self.llama.model(inputs_embeds=embedded, attention_mask=everything).last_hidden_state
        first = 1 + len(images) * PATCHES + 1 + len(prompt) - 1
        return self.head(hidden[:, first : first + answer], chunk)


def save_head(folder: Path, name: str, weights: Mapping[str, Tensor], *, step: str = "50000") -> Path:
    path = folder / f"{name}--{step}_checkpoint.pt"
    torch.save({f"module.{key}": weight for key, weight in weights.items()}, path)
    return path


def write_published(theirs: ReferenceOft, folder: Path, data_sets: Mapping[str, Any]) -> Path:
    """Write the folder as it is published; ``data_sets`` are the statistics of its fine-tuning."""
    write(theirs, folder, {"pretraining": statistics(7, 7, seed=9)})
    save_head(folder, "action_head", theirs.head.state_dict())
    save_head(folder, "proprio_projector", theirs.proprio.state_dict())
    (folder / "dataset_statistics.json").write_text(json.dumps(data_sets))
    return folder
