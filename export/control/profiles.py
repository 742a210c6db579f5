"""The profiles of a bundle: keep ratios, and the policy with its options in each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from saccade.export.bundle.profile_plan import ProfilePlan
from saccade.export.control.calibration import PolicyBuilder
from saccade.export.control.tuned import Tuned, read_tuned
from saccade.export.families.base import ActingFamily
from saccade.export.families.checkpoint import Checkpoint
from saccade.policies.base import TokenPolicy
from saccade.policies.measurements import Measurements
from saccade.policies.signals import ViewScores
from saccade.proto.errors import ExportError


@dataclass(frozen=True)
class PlannedPolicies:
    """The policy of each profile, and what its options rest on.

    Args:
        by_profile: Profile name to policy. Carry and host rules are the same in all of them.
        measured: What the policy was calibrated with, if it asked for that.
        decided: Profile name to the options that calibration decided.
        tuned: Profile name to the search that found its options.
    """

    by_profile: Mapping[str, TokenPolicy]
    measured: Measurements | None = None
    decided: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    tuned: Mapping[str, Tuned] = field(default_factory=dict)

    @property
    def tells_fate(self) -> bool:
        """Whether some profile merges tokens: all of them then say what carries each one."""
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
        name: Registry name of the policy.
        options: Options given by hand, for every profile; a search's options come on top.
        searches: Searches by profile name, from :func:`read_searches`.
        plans: All profiles.
        checkpoint: Checkpoint whose model the policies are built for.
        frames: Host inputs of the frames that calibration looks at.

    Raises:
        PolicyError: The policy does not take the options.
        ExportError: The profiles could not share a session.
    """
    builder = PolicyBuilder(checkpoint.model, frames)
    built = {}
    for plan in plans:
        found = searches[plan.name].options if plan.name in searches else {}
        built[plan.name] = builder.build(name, {**options, **found})
    policies = {profile: calibrated.policy for profile, calibrated in built.items()}
    _check_alike(policies, checkpoint)
    decided = {profile: calibrated.decided for profile, calibrated in built.items()}
    return PlannedPolicies(policies, builder.measured, decided, dict(searches))


def _check_alike(policies: Mapping[str, TokenPolicy], checkpoint: Checkpoint[ActingFamily]) -> None:
    """Every profile may follow every other within a session: what the host holds and does must be the same."""
    grid = checkpoint.model.grid

    def rules(policy: TokenPolicy) -> tuple[object, ...]:
        carry, host = policy.carry_specs(grid), (policy.gate, policy.camera_cut)
        asked = {type(signal) for cut in policy.cuts for signal in cut.signals}
        return carry, policy.warmup_steps, policy.refresh_every, host, ViewScores in asked

    first, *others = policies.items()
    for name, policy in others:
        if rules(policy) != rules(first[1]):
            raise ExportError(
                f"profiles {first[0]!r} and {name!r}: expected options with the same carry, warm-up, refresh, "
                f"gate, camera cut and view scores, found {first[1].config.as_dict()} and "
                f"{policy.config.as_dict()}; give one of them as --policy-option."
            )
