"""Tiny models that draw actions out of noise, of random weights: three prefix layers or four, two Euler steps."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from saccade.export.families.flow import FlowConfig
from saccade.export.families.flow_family import FlowFamily
from saccade.export.families.pi import pi0, pi05
from saccade.export.families.pi.config import PiConfig
from saccade.export.families.smolvla import model as smolvla
from saccade.export.families.smolvla.config import SmolVlaConfig
from saccade.export.models.decoder import DecoderConfig
from saccade.export.models.vision_transformer import VisionConfig

CAMERA = (15, 20)
TOWER = VisionConfig(image_size=20, patch_size=5, width=16, depth=2, heads=2, mlp_dim=24)
FLOW = FlowConfig(chunk=3, action_dim=5, steps=2)


def decoder(width: int, layers: int, *, causal: bool) -> DecoderConfig:
    return DecoderConfig(
        width=width,
        layers=layers,
        heads=4,
        kv_heads=2,
        head_dim=8,
        mlp_dim=24,
        vocab_size=20,
        causal=causal,
        final_norm=False,
    )


def tiny_pi0(seed: int = 0, mlp_dim: int = 24) -> FlowFamily:
    """Two views of 4 x 4 patches; the state is an expert token."""
    return randomised(pi0.Pi0(_pi_config(mlp_dim)), seed)


def tiny_pi05(seed: int = 0) -> FlowFamily:
    """The same with the state in words and time in the expert's norms."""
    return randomised(pi05.Pi05(_pi_config(24)), seed)


def _pi_config(mlp_dim: int) -> PiConfig:
    prefix = replace(decoder(24, 3, causal=False), mlp_dim=mlp_dim)
    return PiConfig(
        tower=TOWER,
        prefix=prefix,
        expert=replace(prefix, width=16, final_norm=True),
        flow=FLOW,
        state_width=6,
        state_dim=4,
        action_dim=3,
        camera=CAMERA,
        views=2,
        max_text_tokens=5,
    )


def tiny_smolvla(seed: int = 0) -> FlowFamily:
    """Two views of 2 x 2 squares of patches; every second expert layer attends to the prefix alone."""
    prefix = decoder(24, 4, causal=True)
    config = SmolVlaConfig(
        tower=TOWER,
        shuffle=2,
        decoder=prefix,
        expert=replace(prefix, width=16, final_norm=True),
        flow=FLOW,
        joint_every=2,
        stored_layers=4,
        is_tied=False,
        views=2,
        max_text_tokens=5,
        state_dim=4,
        state_width=6,
        action_dim=3,
        camera=CAMERA,
    )
    return randomised(smolvla.SmolVla(config), seed)


def randomised(model: FlowFamily, seed: int) -> FlowFamily:
    """Draw every weight, fold time, and return the model in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter.shape[-1] if parameter.dim() > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
    model.fold()
    return model.eval().requires_grad_(False)


def observed(model: FlowFamily, lengths: tuple[int, ...] = (4, 2), seed: int = 0) -> tuple[Tensor, ...]:
    """Random host inputs of some robots, in the order of the model's ``host_inputs``."""
    generator, batch = torch.Generator().manual_seed(seed), len(lengths)
    views = model.grid.views
    mask, positions = type(model.layout)(model.segments).host_inputs(torch.tensor(lengths))
    return (
        torch.randint(0, 256, (batch, views, *CAMERA, 3), generator=generator, dtype=torch.uint8),
        torch.randn(batch, 4, generator=generator),
        torch.randint(0, 20, (batch, 5), generator=generator),
        mask,
        positions,
        torch.randn(batch, FLOW.chunk, FLOW.action_dim, generator=generator),
    )


def unpruned(model: FlowFamily, given: tuple[Tensor, ...]) -> Tensor:
    """Run the model itself on host inputs."""
    images, state, token_ids, mask, positions, noise = given
    prefix = model.layout.tokens
    split = mask[:, :prefix], positions[:, :prefix], positions[:, prefix:]
    actions: Tensor = model(images, state, token_ids, *split, noise)
    return actions
