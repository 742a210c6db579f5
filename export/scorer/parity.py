"""Does the graph of a scorer score as PyTorch does?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from saccade.export.bundle.graph_session import open_graph
from saccade.export.scorer.manifest import INPUTS
from saccade.export.steps.scoring_step import ScoringStep
from saccade.proto.errors import ReceiptError


@dataclass(frozen=True)
class ScoreTolerance:
    """What passes a parity check of a scorer.

    Args:
        scores: Largest error of a score; scores are 0 to 1.
    """

    scores: float = 1e-4


@dataclass(frozen=True)
class ScoreParity:
    """ONNX Runtime against PyTorch on a scorer.

    Args:
        frames: Number of frames compared.
        source: Where the frames come from: ``recorded`` or ``synthetic``.
        max_error: Largest error of a score.
        scores: Mean score of each view over the frames.
        distinct: Number of frames whose views are ranked otherwise than in the first one.
    """

    frames: int
    source: str
    max_error: float
    scores: list[float]
    distinct: int


def check_scores(
    graph: Path,
    step: ScoringStep,
    inputs: Sequence[tuple[Tensor, ...]],
    source: str,
    tolerance: ScoreTolerance,
    tell: Callable[[int, int], None],
) -> ScoreParity:
    """Compare the graph with the module.

    Args:
        graph: Path of the ONNX file, its weights beside it.
        step: Module that scores, run by PyTorch.
        inputs: Host inputs that both take, one tuple for each frame.
        source: Where the frames come from: ``recorded`` or ``synthetic``.
        tolerance: What passes the check.
        tell: Told how many frames are done, and how many there are in all.

    Raises:
        ReceiptError: Graph and module are too far apart.
    """
    session = open_graph(graph)
    ours, theirs = [], []
    for number, frame in enumerate(inputs):
        with torch.inference_mode():
            ours.append(step(*frame).numpy()[0])
        feeds = {name: tensor.numpy() for name, tensor in zip(INPUTS, frame, strict=True)}
        theirs.append(session.run(None, feeds)[0][0])
        tell(number + 1, len(inputs))
    error = float(np.abs(np.stack(ours) - np.stack(theirs)).max())
    if not error <= tolerance.scores:
        raise ReceiptError(
            f"view scorer: ONNX Runtime and PyTorch disagree: expected an error <= {tolerance.scores}, found "
            f"{error:.3g}; do not ship this graph."
        )
    orders = [tuple(np.argsort(-scores).tolist()) for scores in theirs]
    return ScoreParity(
        frames=len(inputs),
        source=source,
        max_error=error,
        scores=[round(float(score), 6) for score in np.mean(theirs, axis=0)],
        distinct=sum(order != orders[0] for order in orders),
    )
