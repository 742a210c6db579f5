"""Numbers that say how much each view matters in a task: who reads them, and what a client may say.

A policy that reads view scores gives more visual tokens to views that matter more. Scores change with the task and not
with what is seen, so they are worked out once, from the first observation after a reset, and kept.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import ViewScoresError
from saccade.proto.manifest import Manifest
from saccade.proto.tensor_names import VIEW_SCORES


def reads_view_scores(manifest: Manifest) -> bool:
    """Say whether the policy of a bundle reads view scores."""
    return any(spec.name == VIEW_SCORES for spec in manifest.tensors)


def ordered_view_scores(scores: Mapping[str, float], manifest: Manifest) -> NDArray[np.float32]:
    """Check what a client said of the views, and put it in the manifest's order: float32 ``(views,)``.

    Raises:
        ViewScoresError: The policy reads none, a view is missing or unknown, or a score is negative or not finite.
    """
    names = [view.name for view in manifest.views]
    if not reads_view_scores(manifest):
        raise ViewScoresError(
            f"expected no view scores, because the policy {manifest.policy.name!r} of {manifest.name!r} reads none, "
            f"found {dict(scores)}: leave them out."
        )
    if set(scores) != set(names):
        raise ViewScoresError(
            f"expected a score for each view of {names} or for none, found {dict(scores)}: "
            f"name all of them, or leave the scores out."
        )
    with np.errstate(over="ignore"):
        ordered = np.array([scores[name] for name in names], np.float32)
    if not are_scores(ordered):
        raise ViewScoresError(
            f"expected finite view scores of 0 or more, found {dict(scores)}: send 0 for a view that does not matter."
        )
    return ordered


def are_scores(scores: NDArray[np.float32]) -> bool:
    """Say whether all numbers are finite and not negative."""
    return bool((np.isfinite(scores) & (scores >= 0)).all())
