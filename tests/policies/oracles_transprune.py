"""TransPrune in plain NumPy, one robot, loops spelled out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.policies.oracles import Floats, top_k


def share(values: Floats) -> Floats:
    """Each value over the sum of all; what is not finite counts as 0."""
    clean = np.array([float(value) if np.isfinite(value) else 0.0 for value in values])
    return clean / clean.sum() if clean.sum() > 0 else clean


def transprune(
    moved: Sequence[Floats], attended: Sequence[Floats], counts: Sequence[int], alpha: float
) -> list[list[int]]:
    """Survivors of each cut, as original indices.

    Args:
        moved: For each cut the variation of all original tokens in the layers since the cut before.
        attended: For each cut the attention of the instruction to all original tokens.
        counts: Survivors of each cut.
        alpha: Weight of the variation.
    """
    alive = list(range(len(moved[0])))
    survivors = []
    for cut, count in enumerate(counts):
        total = np.array([sum(float(moved[part][token]) for part in range(cut + 1)) for token in alive])
        score = alpha * share(total) + (1.0 - alpha) * share(attended[cut][alive])
        alive = [alive[place] for place in top_k(score.astype(np.float32), count)]
        survivors.append(alive)
    return survivors
