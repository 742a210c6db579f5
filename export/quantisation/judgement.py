"""How far is a lowering from the canonical graphs? In the share of each action's range, its units, and kept tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.export.quantisation.trajectory import ProfileRunner, StepRecord
from saccade.proto.scales import Scale
from saccade.proto.tensor_names import ACTIONS, KEPT


@dataclass(frozen=True)
class Judgement:
    """One lowering against the canonical graphs, on one profile.

    Args:
        frames: How many control steps were compared.
        share: Root mean square error of each action dimension, as a share of its usual range; 0 where it has none.
        mean_error: Mean absolute error of each action dimension, in its unit.
        max_error: Largest error of each action dimension, in its unit; infinite where an action was not finite.
        overlap_min: Worst share of common kept tokens.
        same_kept: Share of control steps with equal kept sets.
    """

    frames: int
    share: list[float]
    mean_error: list[float]
    max_error: list[float]
    overlap_min: float
    same_kept: float

    @property
    def worst_share(self) -> float:
        """Largest error of any action dimension, as a share of its range."""
        return max(self.share)


class ActionRuler:
    """Measures differences of normalised actions in units and in shares of a range.

    Args:
        scale: Scale of actions.
    """

    def __init__(self, scale: Scale) -> None:
        low, high = scale.bounds
        self._unit = scale.physical_per_unit.astype(np.float64)
        width = (high - low).astype(np.float64)
        self._per_range = np.divide(self._unit, width, out=np.zeros_like(width), where=width > 0)

    def judge(self, records: Sequence[StepRecord], runner: ProfileRunner) -> Judgement:
        """Run a lowering on the inputs of recorded steps, and compare.

        Args:
            records: Control steps of the canonical graphs.
            runner: Runs the lowering of the same profile.
        """
        errors, overlaps = [], []
        for record in records:
            found = runner.run(record.inputs)
            errors.append(np.abs(found[ACTIONS][0].astype(np.float64) - record.actions))
            kept = found[KEPT][0] if KEPT in found else record.kept
            overlaps.append(len(np.intersect1d(kept, record.kept)) / len(record.kept))
        stacked = np.concatenate(errors)  # (steps * chunk, dim)
        is_finite = np.isfinite(stacked).all()
        share = np.sqrt(np.square(stacked).mean(axis=0)) * self._per_range if is_finite else self._endless()
        return Judgement(
            frames=len(records),
            share=_plain(share),
            mean_error=_plain(stacked.mean(axis=0) * self._unit if is_finite else self._endless()),
            max_error=_plain(stacked.max(axis=0) * self._unit if is_finite else self._endless()),
            overlap_min=min(overlaps),
            same_kept=sum(overlap == 1.0 for overlap in overlaps) / len(overlaps),
        )

    def _endless(self) -> NDArray[np.float64]:
        return np.full(len(self._unit), np.inf)


def worst(judgements: Mapping[str, Judgement]) -> float:
    """Return the largest error of any action dimension in any profile, as a share of its range."""
    return max(judgement.worst_share for judgement in judgements.values())


def _plain(values: NDArray[np.float64]) -> list[float]:
    return [float(value) for value in values]
