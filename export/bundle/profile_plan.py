"""The profiles of a bundle: keep ratios and the names of profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saccade.proto.errors import ExportError
from saccade.proto.profile_names import FULL_PROFILE, profile_name


@dataclass(frozen=True)
class ProfilePlan:
    """One keep count that is to be compiled.

    Args:
        name: Name of the profile: ``full``, ``keep50`` ...
        ratio: Nominal share of visual tokens that are kept.
        budget: Number of visual tokens that are kept, as the policy is given it.
    """

    name: str
    ratio: float
    budget: int

    @property
    def graph(self) -> str:
        """Path of the profile's graph within the bundle."""
        return f"graphs/step.{self.name}.onnx"


def plan_profiles(ratios: Sequence[float], tokens: int) -> tuple[ProfilePlan, ...]:
    """Turn keep ratios into named profiles, largest first.

    Raises:
        ExportError: A ratio is out of range or given twice, or full is missing.
    """
    plans = [_plan(ratio, tokens) for ratio in sorted(set(ratios), reverse=True)]
    if len(plans) != len(ratios) or len({plan.budget for plan in plans}) != len(plans):
        raise ExportError(f"expected keep ratios that differ by a token of {tokens}, found {list(ratios)}.")
    if not plans or plans[0].name != FULL_PROFILE:
        raise ExportError(f"expected 1.0 among the keep ratios (warm-up runs it), found {list(ratios)}.")
    return tuple(plans)


def _plan(ratio: float, tokens: int) -> ProfilePlan:
    if not 0 < ratio <= 1:
        raise ExportError(f"expected keep ratios above 0 and at most 1, found {ratio}.")
    budget = max(1, round(ratio * tokens))
    share = 1.0 if budget == tokens else ratio
    return ProfilePlan(profile_name(share), share, budget)
