"""Kinds of control steps: how the exporter builds one, accounts for it, and measures the unpruned model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from saccade.export.control.calibration import Measure, measure, measure_prompts
from saccade.export.cost.accounting import account_autoregressive, account_step
from saccade.export.cost.flow import account_flow_step
from saccade.export.cost.formulas import StepAccount
from saccade.export.steps.acting_step import ActingStep
from saccade.export.steps.autoregressive_step import AutoregressiveStep
from saccade.export.steps.flow_step import FlowStep
from saccade.export.steps.single_pass_step import SinglePassStep


@dataclass(frozen=True)
class StepKind:
    """What families have in common whose control steps are run the same way.

    Args:
        build: Family, policy and budget (and ``tells_fate``) to a step.
        account: A step to what it costs by formula.
        measure: Family and frames to what policies are calibrated with; None = nothing measures it.
    """

    build: Callable[..., ActingStep]
    account: Callable[[Any], StepAccount]
    measure: Measure | None = None


SINGLE_PASS = StepKind(SinglePassStep, account_step, measure)
"""One pass of one decoder: OpenVLA-OFT."""
AUTOREGRESSIVE = StepKind(AutoregressiveStep, account_autoregressive, measure_prompts)
"""One pass for the prompt, and one for each further action token: OpenVLA."""
FLOW = StepKind(FlowStep, account_flow_step)
"""A prefix, then Euler steps of an expert that reads it: π0, π0.5, SmolVLA."""
