"""What a prompt and the tokens that follow it cost, in each profile of a bundle that answers.

A cache is counted as read whole by every token, whatever a policy over its entries attends to.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from saccade.export.answer.plan import AnsweringPlan, PromptGraph
from saccade.export.cost.account import cut_plan, family_account, with_selection
from saccade.export.cost.torch_count import count_macs
from saccade.export.families.prompts import Prompted
from saccade.export.steps.selecting_module import initial_state
from saccade.policies.kv.base import QuerySelectionPolicy
from saccade.proto.accounting import Account
from saccade.proto.roofline import DECODE


def account_answer(prompted: Prompted, plan: AnsweringPlan, new_tokens: int) -> Account:
    """Return what an answer costs, all passes together.

    Args:
        prompted: Checkpoint that is exported.
        plan: Profile whose cost is asked for.
        new_tokens: Length of an answer, tokens.

    Raises:
        ReceiptError: The modules compute less than the formulas say, which then do not describe the modules.
    """
    formula = family_account(prompted.model, cut_plan(plan.prefill), new_tokens)
    saved = (new_tokens - 1) * _unattended(plan)
    parts = tuple(
        replace(part, macs=part.macs - saved) if part.name == DECODE else part for part in formula.parts
    )
    what = f"policy {plan.prefill.policy.name!r}, profile {plan.profile.name!r}"
    return with_selection(replace(formula, parts=parts), _counted(prompted, plan, new_tokens), what)


def _unattended(plan: AnsweringPlan) -> int:
    """MACs that a further token saves because a policy over the cache lets it attend to some slots only."""
    saved = 0
    for step in plan.generation.decode_steps:
        shape, policy = step.shape, step.policy
        if isinstance(policy, QuerySelectionPolicy):
            queries = shape.kv_heads * shape.group * shape.head_dim
            saved += 2 * shape.layers * queries * (shape.capacity - policy.attended)
    return saved


def _counted(prompted: Prompted, plan: AnsweringPlan, new_tokens: int) -> int:
    """MACs that torch counts in both modules: a prompt, and the passes that follow it."""
    prompt = PromptGraph(plan.prefill, plan.generation)
    token = torch.zeros(1, 1, dtype=torch.int64)
    first = count_macs(prompt, (*prompted.example(), *initial_state(plan.prefill)))
    each = count_macs(plan.generation, (token, token, *plan.generation.initial_carry().values()))
    return first - prompted.model.folded_macs + (new_tokens - 1) * each
