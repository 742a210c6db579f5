"""Opens what scores views: the bundle's manifest says which kind it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saccade.proto.errors import BundleError
from saccade.proto.manifest import Manifest
from saccade.proto.manifest_rules import answers, is_scorer
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.base import Backend
from saccade.runtime.scoring.answering_scorer import AnsweringScorer
from saccade.runtime.scoring.attention_scorer import AttentionScorer
from saccade.runtime.scoring.view_scores import ViewScorer, reads_view_scores


@contextmanager
def open_view_scorer(
    path: Path, backend: Backend, robot: Manifest, *, threads: int = 1, prepack: bool = True
) -> Iterator[ViewScorer]:
    """Load what scores views for a robot's bundle, and run it once so that no task pays for first-time work.

    Args:
        path: Directory of a bundle that answers, which is asked what each view shows; or one of kind ``scorer``, whose
            graph says how much of the instruction's attention falls on each.
        backend: Executes the robot's bundle, and a scorer's graph within its control steps; the caller closes it.
        robot: Manifest of the bundle that the views are scored for.
        threads: Threads of the engine of a bundle that answers; 0 = one for each core.
        prepack: Faster matrix products for a copy of the weights, in that engine.

    Raises:
        BundleError: The bundle cannot be trusted or scores nothing, or does not fit the robot's, or that one reads no
            scores.
        EngineError: A graph cannot be loaded or run.
    """
    bundle = Bundle.open(path)
    manifest = bundle.manifest
    if not is_scorer(manifest) and not answers(manifest):
        raise BundleError(
            f"expected a bundle that answers questions, or one of kind 'scorer', to score views, found "
            f"{manifest.name!r}, which controls a robot."
        )
    if not reads_view_scores(robot):
        raise BundleError(
            f"expected a policy that reads view scores, found {robot.policy.name!r} in {robot.name!r}: "
            f"serve it without a view scorer."
        )
    if is_scorer(manifest):
        attending = AttentionScorer(bundle, backend, robot)
        del bundle  # and the memory of what the program has copied
        yield attending
        return
    answering = AnsweringScorer(bundle, robot, threads=threads, prepack=prepack)
    del bundle
    with answering:
        yield answering
