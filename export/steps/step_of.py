"""The module that places a policy in a family: told by how the family is run, and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saccade.export.families.base import ActingFamily, PerceivingFamily, StepKind
from saccade.export.steps.acting_step import ActingStep
from saccade.export.steps.autoregressive_step import AutoregressiveStep
from saccade.export.steps.flow_step import FlowStep
from saccade.export.steps.prefill_step import PrefillStep
from saccade.export.steps.selecting_module import SelectingModule
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.policies.base import TokenPolicy

_ACTING: Mapping[StepKind, type[ActingStep[Any]]] = {
    StepKind.SINGLE_PASS: SinglePassStep,
    StepKind.AUTOREGRESSIVE: AutoregressiveStep,
    StepKind.FLOW: FlowStep,
}
_STEPS: Mapping[StepKind, type[SelectingModule[Any]]] = {**_ACTING, StepKind.PROMPT: PrefillStep}


def step_class(family: PerceivingFamily) -> type[SelectingModule[Any]]:
    """Return the module that runs a family; for one that answers, the one that reads its prompt."""
    return _STEPS[family.step_kind]


def acting_step(
    family: ActingFamily, policy: TokenPolicy, keep: int, *, tells_fate: bool | None = None
) -> ActingStep[ActingFamily]:
    """Return one control step of a family with a policy in it, in eval mode.

    Args:
        family: Model that acts.
        policy: Policy that selects visual tokens.
        keep: Budget of the profile, visual tokens.
        tells_fate: Say for every token what carries it; None = if the policy merges.

    Raises:
        ExportError: The policy asks for something that cannot be had where it acts.
    """
    return _ACTING[family.step_kind](family, policy, keep, tells_fate=tells_fate).eval()
