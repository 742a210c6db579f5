"""Numbers that say how much each view matters in a task: who reads them, who works them out, what a client may say.

A policy that reads view scores gives more visual tokens to views that matter more. Scores change with the task and not
with what is seen, so they are worked out once, from the first observation after a reset, and kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import ViewScoresError
from saccade.proto.manifest import Manifest
from saccade.proto.tensor_names import VIEW_SCORES


class TaskScoring(Protocol):
    """The views of one task, being scored."""

    def look(self, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Show an observation; the first one of a task is scored, later ones change nothing. Never waits.

        Args:
            images: Views by name, uint8 ``(height, width, 3)`` of the size that the robot's manifest says.
        """
        ...

    def wait(self, timeout_s: float) -> bool:
        """Wait until :meth:`scores` has an answer, and say whether it has one. Safe between threads.

        Args:
            timeout_s: Longest wait, seconds.
        """
        ...

    def scores(self, timings_ns: dict[str, int]) -> NDArray[np.float32]:
        """Return how much each view matters: float32 ``(views,)``, in the order of the robot's manifest.

        Args:
            timings_ns: Gets how long the parts of scoring took, nanoseconds, as ``scorer.<name>``.

        Raises:
            ViewsUnscoredError: The scorer still looks.
            EngineError: The scorer failed, or its scores are negative or not finite.
        """
        ...


class ViewScorer(Protocol):
    """Scores the views of one task after the other."""

    def check(self, instruction: str) -> None:
        """Refuse an instruction that the scorer could not read, before the task begins.

        Args:
            instruction: What the arm shall do.

        Raises:
            InstructionError: The instruction is empty, too long or no Unicode text.
        """
        ...

    def begin(self, instruction: str) -> TaskScoring:
        """Begin to score for a task, and give up the task before. Never waits.

        Args:
            instruction: What the arm shall do.
        """
        ...


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
