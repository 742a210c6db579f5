"""The accounting receipt of a bundle that answers: what a prompt and the words that follow it cost.

A cache is counted as read whole by every word, whatever a policy over its entries attends to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from saccade.export.answer.plan import AnsweringPlan, PromptGraph
from saccade.export.cost.accounting import count_module
from saccade.export.cost.cut_plan import CutPlan
from saccade.export.cost.parts import model_parts
from saccade.export.cost.vision_parts import folded_macs
from saccade.export.families.prompts import Prompted
from saccade.export.steps.selecting_module import initial_state
from saccade.policies.kv.base import QuerySelectionPolicy
from saccade.proto.errors import ReceiptError
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.roofline import DECODE, SELECTION, Part

_VALUE_BYTES = 4
"""Of a number: models are exported in float32."""


def account_answers(prompted: Prompted, plans: Sequence[AnsweringPlan], new_tokens: int) -> dict[str, Any]:
    """Return the receipt: for each profile its stages, all passes of an answer together.

    Args:
        prompted: What is exported.
        plans: All profiles, ``full`` among them.
        new_tokens: Length of an answer.

    Raises:
        ReceiptError: The modules compute less than the formulas say, so that they do not describe them.
    """
    found = {plan.profile.name: _account(prompted, plan, new_tokens) for plan in plans}
    full = found[FULL_PROFILE]["macs"]
    return {name: {**account, "ratio_to_full": account["macs"] / full} for name, account in found.items()}


def _account(prompted: Prompted, plan: AnsweringPlan, new_tokens: int) -> dict[str, Any]:
    model, policy = prompted.model, plan.prefill.policy
    layers = model.decoder.config.layers
    cuts = CutPlan.of(policy, plan.prefill.counts, layers)
    parts = tuple(
        replace(part, macs=part.macs - (new_tokens - 1) * _unattended(plan)) if part.name == DECODE else part
        for part in model_parts(model, cuts, new_tokens)
    )
    selection = Part(SELECTION, _counted(prompted, plan, new_tokens) - sum(part.macs for part in parts), 0)
    if selection.macs < 0:
        raise ReceiptError(
            f"policy {policy.name!r}, profile {plan.profile.name!r}: expected formulas that describe the model, found "
            f"{-selection.macs} MACs more by formula than in the modules; the accounting is wrong."
        )
    stages = (*parts, selection)
    return {
        "stages": {part.name: _stage(part) for part in stages},
        "visual_by_layer": cuts.visual_by_layer(model.grid.tokens, layers),
        "macs": sum(part.macs for part in stages),
    }


def _unattended(plan: AnsweringPlan) -> int:
    """MACs that a further token saves because a policy over the cache lets it attend to some slots only."""
    saved = 0
    for step in plan.generation.decode_steps:
        shape, policy = step.shape, step.policy
        if isinstance(policy, QuerySelectionPolicy):
            queries = shape.kv_heads * shape.group * shape.head_dim
            saved += 2 * shape.layers * queries * (shape.capacity - policy.attended)
    return saved


def _stage(part: Part) -> dict[str, int]:
    return {
        "macs": part.macs,
        "weight_bytes": _VALUE_BYTES * part.weights,
        "passes": part.passes,
        "kv_bytes": _VALUE_BYTES * part.kv_values,
    }


def _counted(prompted: Prompted, plan: AnsweringPlan, new_tokens: int) -> int:
    """MACs that torch counts in both modules: a prompt, and the passes that follow it."""
    prompt = PromptGraph(plan.prefill, plan.generation)
    token = torch.zeros(1, 1, dtype=torch.int64)
    first = count_module(prompt, (*prompted.example(), *initial_state(plan.prefill)))
    each = count_module(plan.generation, (token, token, *plan.generation.initial_carry().values()))
    return first - folded_macs(prompted.model) + (new_tokens - 1) * each
