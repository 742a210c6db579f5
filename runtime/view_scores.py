"""How much each view matters in a task: told by the client, or by a second bundle that looks once and scores.

A policy that reads view scores gives more visual tokens to views that matter more (QuoTA). Scores change with the task
and not with what is seen, so they are worked out once, from the first observation after a reset, and kept.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import BundleError, EngineError, ViewScoresError
from saccade.proto.manifest import Manifest
from saccade.proto.manifest_rules import is_scorer
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.tensor_names import SCORED_VIEWS, VIEW_SCORES
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.base import Backend
from saccade.runtime.program import ProgramExecutor


class ViewScorer:
    """A scorer bundle, loaded. Not safe to share between threads.

    Args:
        bundle: A verified bundle of kind ``scorer``.
        backend: What executes its graphs; the caller closes it.
        robot: Manifest of the bundle that the views are scored for.

    Raises:
        BundleError: The bundle is no scorer, or does not fit the robot's bundle, or that one reads no scores.
        EngineError: A graph cannot be loaded.
    """

    def __init__(self, bundle: Bundle, backend: Backend, robot: Manifest) -> None:
        manifest = bundle.manifest
        if not is_scorer(manifest):
            raise BundleError(
                f"expected a bundle of kind 'scorer' to score views, found {manifest.name!r}, which controls a robot."
            )
        if not reads_view_scores(robot):
            raise BundleError(
                f"expected a policy that reads view scores, found {robot.policy.name!r} in {robot.name!r}: "
                f"serve it without a view scorer."
            )
        if manifest.views != robot.views:
            raise BundleError(
                f"expected a scorer for the views {_described(robot)}, found one for {_described(manifest)}: "
                f"export it for this robot; a graph resizes images itself."
            )
        self._program = ProgramExecutor(bundle, backend)

    def warm_up(self) -> None:
        """Run the scorer on zeros, so that no task pays for first-time work."""
        self._program.warm_up()

    def check(self, instruction: str) -> None:
        """Refuse an instruction that the scorer could not read, before the task begins.

        Args:
            instruction: What the arm shall do.

        Raises:
            InstructionError: The instruction is empty, too long or no Unicode text.
        """
        self._program.tokens.encode(instruction)

    def score(
        self, images: Mapping[str, NDArray[np.uint8]], instruction: str, timings_ns: dict[str, int]
    ) -> NDArray[np.float32]:
        """Return how much each view matters: float32 ``(views,)``, in the order of the manifest.

        Args:
            images: Views by name, uint8 ``(height, width, 3)`` of the size that the manifest says.
            instruction: What the arm shall do.
            timings_ns: Gets the duration of each stage, nanoseconds, as ``scorer.<name>``.

        Raises:
            EngineError: The scorer failed, or its scores are negative or not finite.
        """
        self._program.set_instruction(instruction)
        self._program.set_images(images)
        took_ns: dict[str, int] = {}
        scores: NDArray[np.float32] = self._program.step(FULL_PROFILE, took_ns)[SCORED_VIEWS][0].copy()
        timings_ns |= {name.replace("stage.", "scorer.", 1): value for name, value in took_ns.items()}
        if not _are_scores(scores):
            raise EngineError(
                f"expected finite view scores of 0 or more from {self._program.manifest.name!r}, found "
                f"{scores.tolist()}: hold the arm; give scores in Reset, or serve without a view scorer."
            )
        return scores


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
    if not _are_scores(ordered):
        raise ViewScoresError(
            f"expected finite view scores of 0 or more, found {dict(scores)}: send 0 for a view that does not matter."
        )
    return ordered


def _are_scores(scores: NDArray[np.float32]) -> bool:
    return bool((np.isfinite(scores) & (scores >= 0)).all())


def _described(manifest: Manifest) -> str:
    return ", ".join(f"{view.name} {view.height}x{view.width}" for view in manifest.views)
