"""Plain NumPy versions of the selection formulas, one robot at a time, loops spelled out. Slow on purpose."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

ROUNDING_STEPS = 65536
"""Distances are compared in steps of 1 / 65536, so that backends agree on ties (a documented deviation)."""


def top_k(scores: Floats, keep: int) -> list[int]:
    """Highest scores first; ties to the lowest index; NaN last. Returned ascending."""
    ranked = np.where(np.isnan(scores), -np.inf, scores)
    return sorted(sorted(range(len(ranked)), key=lambda token: (-ranked[token], token))[:keep])


def union_of_top_k(first: Floats, second: Floats, keep: int) -> list[int]:
    """C = TopK(first) | TopK(second)."""
    return sorted(set(top_k(first, keep)) | set(top_k(second, keep)))


def cosine_distance(a: Floats, b: Floats) -> float:
    """1 - cos(a, b), rounded; a zero vector is orthogonal to everything."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.round((1.0 - (a @ b / norms if norms > 0 else 0.0)) * ROUNDING_STEPS))


def max_min_diversity(embeddings: Floats, candidates: list[int], keep: int) -> list[int]:
    """First argmax_a min_{b != a} d(a, b); then argmax_{a not in S} min_{s in S} d(a, s) until |S| = keep."""
    if len(candidates) == 1:
        return candidates
    distance = {(a, b): cosine_distance(embeddings[a], embeddings[b]) for a in candidates for b in candidates}
    chosen = [max(candidates, key=lambda a: (min(distance[a, b] for b in candidates if b != a), -a))]
    while len(chosen) < keep:
        rest = [a for a in candidates if a not in chosen]
        chosen.append(max(rest, key=lambda a: (min(distance[a, s] for s in chosen), -a)))
    return chosen


def smoothed_action_score(rows_newest_first: list[Floats], decay: float) -> Floats:
    """sum_{i=1..w} decay^i row(t - i) / sum_{i=1..w} decay^i."""
    weights = [decay**age for age in range(1, len(rows_newest_first) + 1)]
    total = sum(
        weight * row.astype(np.float64) for weight, row in zip(weights, rows_newest_first, strict=True)
    )
    return np.asarray(total / sum(weights))


def pushed_row(attention: Floats, present: Floats, estimate: Floats) -> Floats:
    """Absent tokens take ``estimate``; present ones share the remaining mass in proportion to their attention."""
    row = np.zeros(len(attention))
    absent = [token for token in range(len(row)) if not present[token] or not np.isfinite(attention[token])]
    alive = [token for token in range(len(row)) if token not in absent]
    for token in absent:
        row[token] = estimate[token]
    seen = sum(float(attention[token]) for token in alive)
    for token in alive:
        row[token] = (
            attention[token] / seen * (1.0 - sum(estimate[other] for other in absent)) if seen else 0.0
        )
    return row


def vla_pruner(semantic: Floats, action: Floats, embeddings: Floats, keep: int) -> list[int]:
    """Union of the semantic and the action top-k, thinned by max-min diversity. Ascending."""
    return sorted(max_min_diversity(embeddings, union_of_top_k(semantic, action, keep), keep))


def single_pass(
    semantic: Floats,
    now: Floats,
    rows_before: list[Floats],
    embeddings: Floats,
    keep: int,
    grid: tuple[int, int],
    *,
    window: int,
    decay: float,
) -> list[int]:
    """One step of VLA-Pruner where action rows are in the pass: view by view, remembered rows once there are w."""
    newest_first = rows_before[::-1][:window]
    enough = len(newest_first) == window
    action = smoothed_action_score(newest_first, decay).astype(np.float32) if enough else now
    views, per_view = grid
    kept: list[int] = []
    for view in range(views):
        part, share = slice(view * per_view, (view + 1) * per_view), keep // views + (view < keep % views)
        if share:
            local = vla_pruner(semantic[part], action[part], embeddings[part], share)
            kept += [view * per_view + token for token in local]
    return kept


def rank_of(scores: Floats) -> list[int]:
    """Place of each token in descending order, ties by index."""
    order = sorted(range(len(scores)), key=lambda token: (-scores[token], token))
    return [order.index(token) for token in range(len(scores))]


def fused(semantic: Floats, action: Floats, keep: int) -> list[int]:
    """Top-k of the sum of both scores, each divided by its own sum."""
    return top_k(semantic / semantic.sum() + action / action.sum(), keep)


def unfiltered(semantic: Floats, action: Floats, keep: int) -> list[int]:
    """The ``keep`` tokens that come first when both rankings are read in turn."""
    best = [min(pair) for pair in zip(rank_of(semantic), rank_of(action), strict=True)]
    return top_k(-np.array(best, dtype=float), keep)


ABLATIONS = {
    "semantic": lambda semantic, action, keep: top_k(semantic, keep),
    "action": lambda semantic, action, keep: top_k(action, keep),
    "fused": fused,
    "unfiltered": unfiltered,
}


def max_sum_diversity(embeddings: Floats, first: int, keep: int) -> list[int]:
    """S = {first}; then argmin_j sum_{s in S} cos(x_j, x_s), as argmax of summed rounded distances."""
    chosen = [first]
    while len(chosen) < keep:
        rest = [a for a in range(len(embeddings)) if a not in chosen]
        chosen.append(
            max(rest, key=lambda a: (sum(cosine_distance(embeddings[a], embeddings[s]) for s in chosen), -a))
        )
    return chosen
