"""Which rule changes which weight, and that what is remembered comes back."""

from __future__ import annotations

import torch

from saccade.sim.training.mini import MINI
from saccade.sim.training.optimiser import Optimiser
from saccade.sim.training.stages import build_model


def stepped(model, optimiser, seed):
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator)
    optimiser.step(1e-3)
    return optimiser


def test_muon_takes_the_matrices_of_blocks_and_nothing_else():
    model = build_model(MINI, 0)
    optimiser = stepped(model, Optimiser(model, 0.0), seed=0)
    kinds = {name.rsplit(".", 1)[-1] for name in optimiser.tensors()}
    assert kinds == {"step", "exp_avg", "exp_avg_sq", "momentum_buffer"}
    turned = sum("momentum_buffer" in name for name in optimiser.tensors())
    tower, decoder = 4 * MINI.tower_blocks, 7 * MINI.layers
    assert turned == tower + decoder
    assert all(weight.grad is None for weight in model.parameters())


def test_what_is_frozen_stays():
    model = build_model(MINI, 0)
    model.vision_backbone.requires_grad_(False)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    stepped(model, Optimiser(model, 0.1), seed=0)
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if not name.startswith("vision_backbone")}


def test_what_it_remembers_comes_back():
    one, two = build_model(MINI, 0), build_model(MINI, 0)
    first = stepped(one, Optimiser(one, 0.0), seed=0)
    two.load_state_dict(one.state_dict())
    second = Optimiser(two, 0.0)
    second.load({name: value.clone() for name, value in first.tensors().items()})
    stepped(one, first, seed=1)
    stepped(two, second, seed=1)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=0, atol=0)
