"""Where each known token-selection policy would act in a model, or why it cannot."""

from __future__ import annotations

import re

from saccade.export.cost.cut_plan import CutPlan
from saccade.export.families.base import PerceivingFamily
from saccade.export.steps.policy_checks import check_schedule, model_shape
from saccade.export.steps.step_of import step_class
from saccade.policies.base import Place, TokenPolicy
from saccade.policies.methods.keep_all import KeepAll
from saccade.policies.registry import build_policy, known_policies
from saccade.proto.errors import ExportError, PolicyError
from saccade.proto.inspection import CutPlace, PolicyFit


def policy_fits(family: PerceivingFamily) -> tuple[PolicyFit, ...]:
    """Return for every known policy, with its default options, where it would act or why it cannot."""
    return tuple(_fit(name, family) for name in sorted(known_policies()))


def placed_policy(name: str, family: PerceivingFamily) -> TokenPolicy:
    """Return a policy with its default options, built for a model.

    Raises:
        PolicyError: No policy has that name, or the options do not fit.
        ExportError: The policy cannot act in this model.
    """
    policy = build_policy(name, {}, model_shape(family))
    step_class(family).check_policy(policy, family)
    return policy


def policy_plan(policy: TokenPolicy, family: PerceivingFamily, keep: int) -> CutPlan:
    """Return a policy's cuts at a budget of ``keep`` tokens.

    Raises:
        PolicyError: The policy cannot meet the budget.
        ExportError: The policy's counts do not fit.
    """
    counts = None
    if keep < family.grid.tokens:
        counts = policy.schedule(keep)
        check_schedule(policy, counts, family.grid)
    return CutPlan.of(policy, counts, family.decoder.config.layers)


def _fit(name: str, family: PerceivingFamily) -> PolicyFit:
    try:
        policy = placed_policy(name, family)
    except (PolicyError, ExportError) as error:
        return PolicyFit(name, fits=False, reason=_in_short(error.message))
    cuts = () if isinstance(policy, KeepAll) else policy.cuts
    places = (CutPlace(cut.place.value, None if cut.place is Place.PROJECTOR else cut.index) for cut in cuts)
    return PolicyFit(name, fits=True, acts=tuple(places))


def _in_short(message: str) -> str:
    """Return a message's problems; signals that want the same go together."""
    first, *lines = message.splitlines()
    asking: dict[str, list[str]] = {}
    for line in lines:
        problem = re.sub(r"^cut \d+: ", "", line.strip())
        signal = re.match(r"(\w+)\(.*\): (?=expected )", problem)
        names = asking.setdefault(problem if signal is None else problem[signal.end() :], [])
        if signal is not None and signal[1] not in names:
            names.append(signal[1])
    problems = (f"{', '.join(names)}: {text}" if names else text for text, names in asking.items())
    return "; ".join(problems) or first
