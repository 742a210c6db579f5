"""sparsevlm from the formulas of paper and code, one robot at a time, loops spelled out. Slow on purpose."""

from __future__ import annotations

import numpy as np

from tests.policies.oracles import Floats, top_k

STEPS = 65536


def text_raters(text: Floats, valid: Floats, visual: Floats) -> list[int]:
    """{j : mean_i softmax_j(x_i . t_j) > mean}, over valid j; every valid j if that is empty."""
    words = [j for j in range(len(text)) if valid[j]]
    shares = []
    for x in visual.astype(np.float64):
        logits = np.array([x @ text[j].astype(np.float64) for j in words])
        weights = np.exp(logits - logits.max())
        shares.append(weights / weights.sum())
    relevance = np.mean(shares, axis=0)
    raters = [j for j, r in zip(words, relevance, strict=True) if round(r * len(words) * STEPS) > STEPS]
    return raters or words


def squared_distances(vectors: Floats) -> Floats:
    """|a - b|^2 for every pair, rounded to steps of 1 / 65536 of the mean squared length (as documented)."""
    wide = vectors.astype(np.float64)
    scale = max(float(np.mean([v @ v for v in wide])), 1e-12) / STEPS
    return np.array([[np.round((a - b) @ (a - b) / scale) * scale for b in wide] for a in wide])


def density_peaks(vectors: Floats, clusters: int) -> tuple[list[int], list[int]]:
    """Centres, ascending, and for each token which of them it joins."""
    count, dim = vectors.shape
    squared = squared_distances(vectors) / dim
    # Rounded: sums of equal steps in another order are equal.
    spread = [round(float(np.mean(sorted(squared[i])[:clusters])), 12) for i in range(count)]
    peak = []
    for i in range(count):
        denser = [j for j in range(count) if (spread[j], j) < (spread[i], i)]
        separation = min((squared[i, j] for j in denser), default=squared.max())
        peak.append(np.exp(-spread[i]) * np.sqrt(separation))
    centres = top_k(np.array(peak).astype(np.float32), clusters)
    joins = []
    for i in range(count):
        by_distance = sorted(range(clusters), key=lambda c: (squared[i, centres[c]], c))
        joins.append(centres.index(i) if i in centres else by_distance[0])
    return centres, joins


def recycled(
    score: Floats, embeddings: Floats, keep: int, clusters: int, pool_size: int
) -> dict[int, list[int]]:
    """Survivor to the tokens whose mean it is."""
    whole = top_k(score, keep - clusters)
    rest = np.where(np.isin(np.arange(len(score)), whole), -np.inf, score)
    pool = top_k(rest, pool_size)
    centres, joins = density_peaks(embeddings[pool], clusters)
    made_of = {token: [token] for token in whole}
    for place, centre in enumerate(centres):
        made_of[pool[centre]] = [token for token, join in zip(pool, joins, strict=True) if join == place]
    return made_of
