"""The accounting receipt of a bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from saccade.export.cost.accounting import count_macs
from saccade.export.cost.formulas import (
    StageAccount,
    StepAccount,
)
from saccade.export.steps.acting_step import ActingStep
from saccade.proto.errors import ReceiptError
from saccade.proto.profile_names import FULL_PROFILE


def account_profiles(
    account: Callable[[Any], StepAccount], steps: Mapping[str, ActingStep], frame: Sequence[Tensor]
) -> dict[str, Any]:
    """Return the accounting receipt of a bundle.

    Args:
        account: What a step of this kind costs by formula.
        steps: Of each profile, ``full`` among them.
        frame: Host inputs of one control step.

    Raises:
        ReceiptError: The module computes less than the formulas say, so that they do not describe it.
    """
    profiles = {name: _account_profile(account, step, frame) for name, step in steps.items()}
    full = profiles[FULL_PROFILE]["macs"]
    return {name: {**account, "ratio_to_full": account["macs"] / full} for name, account in profiles.items()}


def _account_profile(
    account: Callable[[Any], StepAccount], step: ActingStep, frame: Sequence[Tensor]
) -> dict[str, Any]:
    found, counted = account(step), count_macs(step, frame)
    if counted < found.macs:
        raise ReceiptError(
            f"policy {step.policy.name!r} at keep {step.keep}: expected formulas that describe the model, found "
            f"{found.macs} MACs by formula and {counted} in the module; the accounting is wrong."
        )
    stages = {**found.stages, "selection": StageAccount(counted - found.macs, 0)}
    return {
        **asdict(found),
        "stages": {name: asdict(stage) for name, stage in stages.items()},
        "macs": counted,
    }
