"""The build machine's half of ``saccade inspect``: a checkpoint's costs and policies; no weight is read."""

from __future__ import annotations

from pathlib import Path

from saccade.export.cost.cut_plan import CutPlan
from saccade.export.cost.parts import model_parts, parameter_counts
from saccade.export.inspection.description import describe, dimensions
from saccade.export.inspection.policies import placed_policy, policy_fits, policy_plan
from saccade.export.inspection.recognition import Opened, open_checkpoint
from saccade.proto.errors import ExportError
from saccade.proto.inspection import Budget, Inspection, InspectionRequest
from saccade.proto.profile_names import profile_name


def inspect_checkpoint(folder: Path, request: InspectionRequest) -> Inspection:
    """Look at a checkpoint.

    Args:
        folder: Directory of the checkpoint.
        request: What to assume, and which budgets to look at.

    Raises:
        CheckpointError: A file, key or shape is missing, left over or wrong.
        PolicyError: No policy has the name that is asked for.
        ExportError: The deployment or the policy does not fit.
    """
    opened = open_checkpoint(folder, request)
    model = opened.model
    return Inspection(
        kind="checkpoint",
        name=opened.folder.name,
        family=opened.reader.name,
        facts=describe(opened),
        dimensions=dimensions(model),
        visual_tokens=model.grid.tokens,
        unit=opened.unit,
        parameters=parameter_counts(model),
        budgets=_budgets(opened, request),
        policies=policy_fits(model),
        notes=(*_notes(opened, request),),
    )


def _budgets(opened: Opened, request: InspectionRequest) -> tuple[Budget, ...]:
    model, tokens = opened.model, opened.model.grid.tokens
    layers = model.decoder.config.layers
    policy = None if request.policy is None else placed_policy(request.policy, model)
    budgets: dict[int, Budget] = {}
    for ratio in sorted({1.0, *request.keep_ratios}, reverse=True):
        if not 0 < ratio <= 1:
            raise ExportError(f"expected keep ratios above 0 and at most 1, found {ratio}.")
        keep = max(1, round(ratio * tokens))
        if policy is not None:
            plan = policy_plan(policy, model, keep)
        else:
            plan = CutPlan() if keep == tokens else CutPlan.at_entry(keep)
        parts = model_parts(model, plan, opened.new_tokens)
        budget = Budget(profile_name(ratio), keep, ratio, parts, plan.visual_by_layer(tokens, layers))
        budgets.setdefault(keep, budget)
    return tuple(budgets.values())


def _notes(opened: Opened, request: InspectionRequest) -> list[str]:
    notes = [f"Assumed: {', '.join(opened.assumed)}."] if opened.assumed else []
    if request.policy is None:
        notes.append(
            "Tokens are cut at the decoder's entry, where most is saved; --policy NAME counts a policy's own cuts."
        )
    else:
        notes.append(
            f"Tokens are cut where {request.policy} cuts them; what it computes itself is not counted here."
        )
    if opened.stored is None:
        notes.append("The weight files were not looked at.")
    return notes
