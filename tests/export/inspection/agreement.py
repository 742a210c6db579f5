"""``saccade inspect`` on a checkpoint and on the bundle exported from it: the same numbers, from two ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saccade.export.inspection.checkpoint import inspect_checkpoint
from saccade.proto.inspection import InspectionRequest
from saccade.proto.roofline import SELECTION
from saccade.runtime.bundle import Bundle
from saccade.runtime.inspection.bundle import inspect_bundle


def check_agreement(checkpoint: Path, bundle: Path, *, is_default: bool = True, **deployment: Any) -> None:
    """Compare every number that both tell.

    Args:
        checkpoint: Folder of the checkpoint.
        bundle: What was exported from it.
        is_default: Its policy has its default options; else only the full profile is compared.
        deployment: What the export was told and the checkpoint does not say, as in ``InspectionRequest``.
    """
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    ratios = tuple(profile.keep_ratio for profile in manifest.profiles) if is_default else (1.0,)
    policy = manifest.policy.name if is_default else None
    request = InspectionRequest(keep_ratios=ratios, policy=policy, **deployment)
    before, after = inspect_checkpoint(checkpoint, request), inspect_bundle(opened, ratios)
    assert before.visual_tokens == after.visual_tokens
    assert before.parameters == after.parameters and after.parameters
    assert before.dimensions["sequence"].items() <= after.dimensions["sequence"].items()
    assert len(before.budgets) == len(after.budgets) == len(ratios)
    for expected, found in zip(before.budgets, after.budgets, strict=True):
        assert (found.name, found.keep, found.keep_ratio) == (
            expected.name, expected.keep, expected.keep_ratio,
        )  # fmt: skip
        assert found.visual_by_layer == expected.visual_by_layer
        assert tuple(part for part in found.parts if part.name != SELECTION) == expected.parts
