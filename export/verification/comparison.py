"""How far two sides are apart, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STAGES = (
    "prompt tokens",
    "proprioception",
    "pictures",
    "vision features",
    "projected tokens",
    "decoder input",
    "decoder keys and values",
    "decoder states",
    "logits",
    "next tokens",
    "actions",
    "actions in units",
)
"""Every stage that may be compared, in the order in which a model runs."""


_LEVELS = "pictures"
"""Stage whose numbers were levels from 0 to 255: a sum in another order may round one in a thousand the other way."""
_LEVEL, _ROUNDED = 2 / 255, 1e-3


@dataclass(frozen=True)
class StageError:
    """The largest disagreement of one stage over all frames.

    Args:
        stage: Name of the stage.
        numbers: How many numbers were compared.
        largest: Largest magnitude in the reference.
        error: Largest difference.
        relative: Largest difference as a share of ``largest`` of the same frame; tokens: 0 where all are the same, else
            1. Infinite where the two sides have other shapes or a number is not finite.
        agrees: Whether that is within the tolerance.
        note: What is wrong where no number says it; empty = nothing.
    """

    stage: str
    numbers: int
    largest: float
    error: float
    relative: float
    agrees: bool
    note: str = ""


def compare_stages(
    ours: Mapping[str, NDArray[Any]], theirs: Mapping[str, NDArray[Any]], frames: int, tolerance: float
) -> tuple[list[StageError], list[str]]:
    """Compare every stage that both sides have.

    Args:
        ours: Our arrays, as ``FRAME/STAGE``.
        theirs: The reference's arrays, as ``FRAME/STAGE``.
        frames: Number of frames.
        tolerance: Largest relative difference that agrees; token ids must be the same.

    Returns:
        What each stage came to, in the order of :data:`STAGES`, and the stages that one side does not have.
    """
    found, missing = [], []
    for stage in STAGES:
        keys = [f"{frame}/{stage}" for frame in range(frames)]
        here, there = ({key for key in keys if key in side} for side in (ours, theirs))
        if here and here == there:
            found.append(_compare(stage, [(ours[key], theirs[key]) for key in sorted(here)], tolerance))
        elif here or there:
            missing.append(stage)
    return found, missing


def _compare(stage: str, pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]], tolerance: float) -> StageError:
    numbers = sum(theirs.size for _, theirs in pairs)
    for ours, theirs in pairs:
        if ours.shape != theirs.shape:
            note = f"shapes: ours {list(ours.shape)}, theirs {list(theirs.shape)}"
            return StageError(stage, numbers, 0.0, np.inf, np.inf, agrees=False, note=note)
    if all(np.issubdtype(theirs.dtype, np.integer) for _, theirs in pairs):
        wrong = sum(int((ours != theirs).sum()) for ours, theirs in pairs)
        note = f"{wrong} of {numbers} are others" if wrong else ""
        return StageError(stage, numbers, 0.0, float(wrong), float(wrong > 0), agrees=not wrong, note=note)
    apart = [(float(np.abs(ours - theirs).max(initial=0)), _magnitude(theirs)) for ours, theirs in pairs]
    relative = max(_share(error, largest) for error, largest in apart)
    error = max((error if np.isfinite(error) else np.inf) for error, _ in apart)
    note = "" if np.isfinite(error) else "a number is not finite"
    agrees = relative <= tolerance or (
        stage == _LEVELS and relative <= _LEVEL and _few_apart(pairs, tolerance)
    )
    return StageError(
        stage, numbers, max(size for _, size in apart), error, relative, agrees=agrees, note=note
    )


def _few_apart(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]], tolerance: float) -> bool:
    """Whether no more numbers differ than rounding explains."""
    wrong = [np.abs(ours - theirs) > tolerance * _magnitude(theirs) for ours, theirs in pairs]
    return max(float(each.mean()) for each in wrong) <= _ROUNDED


def _magnitude(array: NDArray[Any]) -> float:
    return float(np.abs(array).max(initial=0))


def _share(error: float, largest: float) -> float:
    if error == 0:
        return 0.0
    return error / largest if np.isfinite(error) and 0 < largest < np.inf else np.inf
