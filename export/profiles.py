"""The profiles of a bundle: keep ratios, and the policy with its options in each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from saccade.export.calibration import PolicyBuilder
from saccade.export.checkpoint import Checkpoint
from saccade.export.families.base import ActingFamily
from saccade.export.tuning.tuned import Tuned, read_tuned
from saccade.policies.base import TokenPolicy
from saccade.policies.measurements import Measurements
from saccade.policies.signals import ViewScores
from saccade.proto.errors import ExportError
from saccade.proto.manifest_rules import FULL_PROFILE


@dataclass(frozen=True)
class ProfilePlan:
    """One keep count that is to be compiled.

    Args:
        name: ``full``, ``keep50`` ...
        ratio: Nominal share of visual tokens.
        budget: Their number, as the policy is given it.
    """

    name: str
    ratio: float
    budget: int

    @property
    def graph(self) -> str:
        """Path of its graph within the bundle."""
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
    if budget == tokens:
        return ProfilePlan(FULL_PROFILE, 1.0, budget)
    return ProfilePlan(f"keep{100 * ratio:g}", ratio, budget)


@dataclass(frozen=True)
class PlannedPolicies:
    """The policy of each profile, and what its options rest on.

    Args:
        by_profile: Profile name to policy. Carry and host rules are the same in all of them.
        measured: What the policy was calibrated with, if it asked for that.
        tuned: Profile name to the search that found its options.
    """

    by_profile: Mapping[str, TokenPolicy]
    measured: Measurements | None = None
    tuned: Mapping[str, Tuned] = field(default_factory=dict)

    @property
    def tells_fate(self) -> bool:
        """Some profile merges tokens: all of them say what carries each one."""
        return any(policy.merges for policy in self.by_profile.values())


def read_searches(paths: Sequence[Path], plans: Sequence[ProfilePlan], policy: str) -> dict[str, Tuned]:
    """Read results of ``saccade tune`` and say which profile each is for.

    Raises:
        ExportError: A result is of another policy, of no profile here, or one of two for the same.
    """
    names = {plan.ratio: plan.name for plan in plans}
    found: dict[str, Tuned] = {}
    for path in paths:
        tuned = read_tuned(path)
        name = names.get(tuned.keep_ratio)
        if tuned.policy != policy or name is None or name in found:
            raise ExportError(
                f"{path.name}: expected the one search of policy {policy!r} for one of the keep ratios "
                f"{sorted(names)}, found {tuned.policy!r} at {tuned.keep_ratio}."
            )
        found[name] = tuned
    return found


def plan_policies(
    name: str,
    options: Mapping[str, object],
    searches: Mapping[str, Tuned],
    plans: Sequence[ProfilePlan],
    checkpoint: Checkpoint[ActingFamily],
    frames: Sequence[tuple[Tensor, ...]],
) -> PlannedPolicies:
    """Build the policy of every profile.

    Args:
        name: Registry name.
        options: Given by hand, for every profile; a search's options come on top.
        searches: From :func:`read_searches`.
        plans: All profiles.
        checkpoint: The model.
        frames: Host inputs, what calibration looks at.

    Raises:
        PolicyError: Options that the policy does not take.
        ExportError: Profiles that could not share a session.
    """
    builder = PolicyBuilder(checkpoint.model, frames, checkpoint.kind.measure)
    policies: dict[str, TokenPolicy] = {}
    for plan in plans:
        found = searches[plan.name].options if plan.name in searches else {}
        policies[plan.name] = builder.build(name, {**options, **found})
    _check_alike(policies, checkpoint)
    return PlannedPolicies(policies, builder.measured, dict(searches))


def _check_alike(policies: Mapping[str, TokenPolicy], checkpoint: Checkpoint[ActingFamily]) -> None:
    """Every profile may follow every other within a session: what the host holds and does must be the same."""
    grid = checkpoint.model.grid

    def rules(policy: TokenPolicy) -> tuple[object, ...]:
        carry, gate = policy.carry_specs(grid), policy.gate
        asked = {type(signal) for cut in policy.cuts for signal in cut.signals}
        return carry, policy.warmup_steps, policy.refresh_every, gate, ViewScores in asked

    first, *others = policies.items()
    for name, policy in others:
        if rules(policy) != rules(first[1]):
            raise ExportError(
                f"profiles {first[0]!r} and {name!r}: expected options with the same carry, warm-up, refresh, "
                f"gate and view scores, found {first[1].config.as_dict()} and {policy.config.as_dict()}; give one of "
                "them as --policy-option."
            )
