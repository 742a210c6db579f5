"""A tiny OpenVLA-OFT checkpoint: two views of 2 x 2 patches, three decoder layers, eleven words."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from saccade.export.families.embodiment import Embodiment
from saccade.export.families.openvla_oft.checkpoint import save_checkpoint
from saccade.export.families.openvla_oft.config import OftConfig
from saccade.export.families.openvla_oft.model import OpenVlaOft, initialise
from saccade.export.models.decoder import DecoderConfig
from saccade.export.models.vision_transformer import VisionConfig
from saccade.proto.manifest import ActionSpec, LimitsSpec, VectorSpec

WORDS = ("<pad>", "<s>", "</s>", "<unk>", "push", "the", "red", "blue", "block", "to", "zone")

CONFIG = OftConfig(
    towers=(VisionConfig(image_size=12, patch_size=6, width=16, depth=1, heads=2, mlp_dim=24),),
    decoder=DecoderConfig(
        width=16,
        layers=3,
        heads=2,
        kv_heads=2,
        head_dim=8,
        mlp_dim=24,
        vocab_size=len(WORDS),
        causal=False,
    ),
    views=2,
    chunk=2,
    action_dim=3,
    proprio_dim=2,
    max_text_tokens=6,
)

EMBODIMENT = Embodiment(
    name="tiny",
    license="Apache-2.0",
    views=("scene", "wrist"),
    proprio=VectorSpec(("height", "opening"), ("m", "m")),
    action=ActionSpec(("dx", "dy", "gripper"), ("m", "m", "1"), 2, 20.0, "delta_ee"),
    # Random weights act wildly; the limiter is not what is tested here.
    limits=LimitsSpec((-100.0,) * 3, (100.0,) * 3, (200.0,) * 3),
    template="{instruction}",
    statistics_key="table",
)

STATISTICS = {
    "table": {
        "action": {"q01": [-0.02, -0.02, 0.0], "q99": [0.02, 0.02, 1.0], "mask": [True, True, False]},
        "proprio": {"q01": [0.0, 0.0], "q99": [0.5, 0.08]},
    }
}


def tiny_model(seed: int = 0) -> OpenVlaOft:
    """A model with seeded random weights, in eval mode."""
    return initialise(OpenVlaOft(CONFIG), seed).eval().requires_grad_(False)


def write_tokenizer(folder: Path) -> None:
    """Write a ``tokenizer.json`` of the eleven words."""
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=WORDS[3]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


def write_tiny_checkpoint(path: Path, model: OpenVlaOft | None = None) -> Path:
    """Write the whole checkpoint folder."""
    path.mkdir(parents=True, exist_ok=True)
    write_tokenizer(path)
    return save_checkpoint(
        model or tiny_model(),
        path,
        embodiment=EMBODIMENT,
        statistics=STATISTICS,
        tokenizer=path / "tokenizer.json",
    )


def observation(model: OpenVlaOft, batch: int = 1, seed: int = 0, length: int = 4) -> tuple[Tensor, ...]:
    """Random host inputs: images, proprio, token_ids, attention_mask, position_ids."""
    config, generator = model.config, torch.Generator().manual_seed(seed)
    side = config.image_size
    images = torch.randint(
        0, 256, (batch, config.views, side, side, 3), generator=generator, dtype=torch.uint8
    )
    proprio = torch.rand(batch, config.proprio_dim, generator=generator) * 2 - 1
    token_ids = torch.randint(3, len(WORDS), (batch, config.max_text_tokens), generator=generator)
    mask, positions = model.sequence_inputs(torch.full((batch,), length))
    return images, proprio, token_ids, mask, positions
