"""ToDRE written down from the paper's formulas, one robot at a time, loops spelled out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.policies.oracles import Floats, cosine_distance


def pivot_of(attention: Floats, candidates: Sequence[int]) -> int:
    """p = argmax_j a_j over the candidates; ties to the lowest index, NaN never wins."""
    best = candidates[0]
    for token in candidates:
        if np.isnan(attention[best]) or attention[token] > attention[best]:
            best = token
    return best


def max_sum(embeddings: Floats, candidates: Sequence[int], pivot: int, keep: int) -> list[int]:
    """S = {p}; then argmin_{j not in S} sum_{s in S} cos(x_j, x_s): the largest sum of rounded distances."""
    chosen = [pivot]
    while len(chosen) < keep:
        totals = {}
        for token in candidates:
            if token not in chosen:
                totals[token] = sum(cosine_distance(embeddings[token], embeddings[s]) for s in chosen)
        chosen.append(max(totals, key=lambda token: (totals[token], -token)))
    return sorted(chosen)


def k_centre(embeddings: Floats, candidates: Sequence[int], pivot: int, keep: int) -> list[int]:
    """S = {p}; then argmax_{j not in S} min_{s in S} (1 - cos(x_j, x_s)), distances rounded."""
    chosen = [pivot]
    while len(chosen) < keep:
        nearest = {}
        for token in candidates:
            if token not in chosen:
                nearest[token] = min(cosine_distance(embeddings[token], embeddings[s]) for s in chosen)
        chosen.append(max(nearest, key=lambda token: (nearest[token], -token)))
    return sorted(chosen)


FORMS = {"max_sum": max_sum, "k_centre": k_centre}
