"""One pruned control step of every registered policy, in a model deep enough for all of them; each is captured once."""

from __future__ import annotations

import functools
from dataclasses import replace

import onnx_ir as ir

from saccade.export.families.openvla_oft.model import OpenVlaOft, initialise
from saccade.export.lowering.capture import to_graph
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.selecting_module import initial_state
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.policies.registry import build_policy
from tests.export.samples import CONFIG, observation

DEEP_CONFIG = replace(
    CONFIG,
    towers=(
        replace(
            CONFIG.towers[0], image_size=24, depth=4, class_token=True, register_tokens=1, layer_scale=True
        ),
    ),
    decoder=replace(CONFIG.decoder, layers=5, kv_heads=1),
)
"""Two views of 4 x 4 patches, a class token, four vision blocks, five decoder layers, grouped queries."""

BUDGET = 12


@functools.cache
def deep_model() -> OpenVlaOft:
    """A model with seeded random weights, in eval mode."""
    return initialise(OpenVlaOft(DEEP_CONFIG), 0).eval().requires_grad_(False)


def policy_step(name: str, budget: int | None = None) -> SinglePassStep:
    """The policy with its default options, pruned; keep_all can only keep all."""
    model = deep_model()
    policy = build_policy(name, {}, model_shape(model))
    pruned = model.grid.tokens if name == "keep_all" else BUDGET
    return SinglePassStep(model, policy, pruned if budget is None else budget).eval()


@functools.cache
def policy_graph(name: str) -> ir.Model:
    """The graph of :func:`policy_step`."""
    step = policy_step(name)
    return to_graph(step, (*observation(deep_model()), *initial_state(step)), step.ports, name)
