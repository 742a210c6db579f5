"""Scores by a graph of their own: the share of the instruction's attention that falls on each view.

It is as fast as a part of a control step, runs within one, on the engine of the robot's bundle.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import BundleError, EngineError
from saccade.proto.manifest import Manifest
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.tensor_names import SCORED_VIEWS
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.base import Backend
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.scoring.view_scores import are_scores


class AttentionScorer:
    """A bundle of kind ``scorer``, loaded and warmed. Not safe to share between threads.

    Args:
        bundle: A verified bundle of kind ``scorer``.
        backend: What executes its graphs; the caller closes it.
        robot: Manifest of the bundle that the views are scored for.

    Raises:
        BundleError: The bundle does not fit the robot's.
        EngineError: A graph cannot be loaded or run.
    """

    def __init__(self, bundle: Bundle, backend: Backend, robot: Manifest) -> None:
        manifest = bundle.manifest
        if manifest.views != robot.views:
            raise BundleError(
                f"expected a scorer for the views {_described(robot)}, found one for {_described(manifest)}: "
                f"export it for this robot; a graph resizes images itself."
            )
        self._program = ProgramExecutor(bundle, backend)
        self._program.warm_up()

    def check(self, instruction: str) -> None:
        """See :meth:`saccade.runtime.scoring.view_scores.ViewScorer.check`."""
        self._program.tokens.encode(instruction).check_known(instruction)

    def begin(self, instruction: str) -> AttentionScoring:
        """See :meth:`saccade.runtime.scoring.view_scores.ViewScorer.begin`."""
        return AttentionScoring(self._program, instruction)


class AttentionScoring:
    """The views of one task; made by :meth:`AttentionScorer.begin`. Scored when they are asked for."""

    def __init__(self, program: ProgramExecutor, instruction: str) -> None:
        self._program = program
        self._instruction = instruction
        self._images: Mapping[str, NDArray[np.uint8]] = {}

    def look(self, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """See :meth:`saccade.runtime.scoring.view_scores.TaskScoring.look`."""
        self._images = images

    def wait(self, timeout_s: float) -> bool:
        """Return True: scores are there as soon as they are asked for."""
        del timeout_s
        return True

    def scores(self, timings_ns: dict[str, int]) -> NDArray[np.float32]:
        """See :meth:`saccade.runtime.scoring.view_scores.TaskScoring.scores`."""
        self._program.set_instruction(self._instruction)
        self._program.set_images(self._images)
        took_ns: dict[str, int] = {}
        scores: NDArray[np.float32] = self._program.step(FULL_PROFILE, took_ns)[SCORED_VIEWS][0].copy()
        timings_ns |= {name.replace("stage.", "scorer.", 1): value for name, value in took_ns.items()}
        if not are_scores(scores):
            raise EngineError(
                f"expected finite view scores of 0 or more from {self._program.manifest.name!r}, found "
                f"{scores.tolist()}: hold the arm; give scores in Reset, or serve without a view scorer."
            )
        return scores


def _described(manifest: Manifest) -> str:
    return ", ".join(f"{view.name} {view.height}x{view.width}" for view in manifest.views)
