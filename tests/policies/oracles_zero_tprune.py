"""Zero-TPrune in plain NumPy, one image, float64, loops spelled out."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tests.policies.oracles import Floats

STEPS = 65536.0
"""Scores and cosines are compared in steps of 1 / 65536, so that equal patches tie (a documented deviation)."""


class Cut(NamedTuple):
    """What one cut leaves.

    Args:
        kept: Patches, ascending.
        margin: The least difference that decided anything, in steps; below about two it may fall either way.
    """

    kept: list[int]
    margin: float


def page_rank(attention: Floats, nodes: list[int], iterations: int) -> Floats:
    """n * s of one head over some nodes: uniform start, s_j <- sum_i s_i A_ij / sum_k A_ik."""
    score = dict.fromkeys(nodes, 1.0 / len(nodes))
    for _ in range(iterations):
        following = dict.fromkeys(nodes, 0.0)
        for i in nodes:
            row = sum(float(attention[i, k]) for k in nodes)
            for j in nodes:
                following[j] += score[i] * float(attention[i, j]) / row
        score = following
    total = sum(score.values())
    result = np.zeros(len(attention))
    for node in nodes:
        result[node] = score[node] / total * len(nodes)
    return result


def importance(
    graph: Floats, nodes: list[int], iterations: int, variance: tuple[float, float]
) -> tuple[Floats, float]:
    """Root mean square over heads whose variance is in range (over all if none is), and how near any is to its edge."""
    heads = [page_rank(attention, nodes, iterations) for attention in graph]
    spread = [float(np.mean([(head[node] - 1.0) ** 2 for node in nodes])) for head in heads]
    passing = [head for head, var in zip(heads, spread, strict=True) if variance[0] <= var <= variance[1]]
    square = sum(head**2 for head in passing or heads)
    edge = min(abs(var - limit) for var in spread for limit in variance)
    return np.asarray(np.round(np.sqrt(square / len(passing or heads)) * STEPS)), edge


def best(scores: Floats, among: list[int]) -> list[int]:
    """Highest first, ties to the lowest index."""
    return sorted(among, key=lambda token: (-scores[token], token))


def margin_between(scores: Floats, first: list[int], others: list[int]) -> float:
    """Distance of the worst of the first to the best of the others."""
    if not first or not others:
        return float("inf")
    return float(min(scores[token] for token in first) - max(scores[token] for token in others))


def similar(scores: Floats, keys: Floats, drop: int, *, alternating: bool) -> tuple[list[int], float]:
    """The patches of the lesser half that are nearest to one of the other half, and the margin of that choice."""
    tokens = list(range(len(scores)))
    order = best(scores, tokens)
    half = (len(order) + 1) // 2
    greater = order[::2] if alternating else order[:half]
    lesser = [token for token in tokens if token not in greater]
    nearest = np.full(len(scores), -np.inf)
    for token in lesser:
        cosines = []
        for other in greater:
            a, b = keys[token].astype(np.float64), keys[other].astype(np.float64)
            lengths = np.linalg.norm(a) * np.linalg.norm(b)
            cosines.append(float(a @ b / lengths) if lengths > 0 else 0.0)
        nearest[token] = np.round(max(cosines) * STEPS)
    closest = best(nearest, lesser)
    gaps = [scores[x] - scores[y] for x, y in pairwise(order)]
    halves = min(gaps) if alternating else gaps[half - 1]
    return closest[:drop], min(halves, margin_between(nearest, closest[:drop], closest[drop:]))


def cut(
    graph: Floats,
    keys: Floats,
    keep: int,
    *,
    iterations: int,
    light: int = 1,
    share: float = 0.5,
    alternating: bool = False,
    variance: tuple[float, float] = (0.01, 0.7),
) -> Cut:
    """I' orders, S drops its share, I on what is left drops the rest."""
    tokens = list(range(len(graph[0])))
    drop = min(round(share * (len(tokens) - keep)), len(tokens) // 2)
    dropped, margins = [], []
    if drop:
        order, edge = importance(graph, tokens, light, variance)
        dropped, margin = similar(order, keys, drop, alternating=alternating)
        margins += [edge * STEPS, margin]
    left = [token for token in tokens if token not in dropped]
    score, edge = importance(graph, left, iterations, variance)
    ranked = best(score, left)
    margins += [edge * STEPS, margin_between(score, ranked[:keep], ranked[keep:])]
    return Cut(sorted(ranked[:keep]), min(margins))
