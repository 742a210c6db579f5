"""The account of one profile: what its parts cost by formula, and what torch counts beside that, which is the policy's.

* Layer by layer, the tokens are those that the policy's cuts and its schedule leave there.
* What the policy itself adds (attention rows, similarities, merges) has no formula: torch counts the matrix products of
  the whole module, and ``selection`` is what the formulas leave unexplained. Sorting and comparing cost no MAC. Rows of
  an attention that the layer computes anyway count again, although the graph computes them once.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from saccade.export.cost.cut_plan import CutPlan
from saccade.export.cost.parts import cache_values, model_parts
from saccade.export.cost.torch_count import count_macs
from saccade.export.families.base import ActingFamily, PerceivingFamily
from saccade.export.steps.acting_step import ActingStep
from saccade.export.steps.selecting_module import SelectingModule, initial_state
from saccade.proto.accounting import Account
from saccade.proto.errors import ReceiptError
from saccade.proto.roofline import SELECTION, Part


def cut_plan(step: SelectingModule[PerceivingFamily]) -> CutPlan:
    """Return where a step drops visual tokens."""
    return CutPlan.of(step.policy, step.counts, step.family.decoder.config.layers)


def formula_account(step: ActingStep[ActingFamily]) -> Account:
    """Return what a control step costs by formula, without what its policy computes.

    Args:
        step: Model with the policy in it; only shapes are looked at, so that it may live on the meta device.
    """
    return family_account(step.family, cut_plan(step))


def family_account(family: PerceivingFamily, plan: CutPlan, new_tokens: int = 1) -> Account:
    """Return what a model costs by formula.

    Args:
        family: Model whose cost is asked for; only shapes are looked at.
        plan: Where visual tokens are dropped.
        new_tokens: Tokens of an answer, in a family that answers.
    """
    return Account(
        model_parts(family, plan, new_tokens),
        plan.visual_by_layer(family.grid.tokens, family.decoder.config.layers),
        family.grid.tokens,
        cache_values(family, plan, new_tokens),
    )


def account_step(step: ActingStep[ActingFamily], frame: Sequence[Tensor]) -> Account:
    """Return what a control step costs.

    Args:
        step: Model with the policy in it.
        frame: Host inputs of one control step; only their shapes matter.

    Raises:
        ReceiptError: The module computes less than the formulas say, which then do not describe the module.
    """
    counted = count_macs(step, (*frame, *initial_state(step)))
    return with_selection(formula_account(step), counted, f"policy {step.policy.name!r} at keep {step.keep}")


def with_selection(account: Account, counted: int, what: str) -> Account:
    """Add what the formulas leave unexplained, as the policy's own part.

    Args:
        account: What a step or an answer costs by formula.
        counted: Multiply-accumulates that torch counts in the modules.
        what: Name of the policy and its budget, for messages.

    Raises:
        ReceiptError: The modules compute less than the formulas say.
    """
    if counted < account.macs:
        raise ReceiptError(
            f"{what}: expected formulas that describe the model, found {account.macs} MACs by formula and {counted} in "
            "the module; the accounting is wrong."
        )
    return account.plus(Part(SELECTION, counted - account.macs, 0))
