"""SpAtten's two cascades in plain Python, loops spelled out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.policies.oracles import Floats, top_k


def tokens_left(received: Sequence[Floats], layers: Sequence[int], counts: Sequence[int]) -> list[list[int]]:
    """Survivors of each cut, as original indices.

    Args:
        received: For each cut the mean attention of all original tokens in the layers since the cut before.
        layers: How many layers these are.
        counts: Survivors of each cut.
    """
    alive = list(range(len(received[0])))
    importance = np.zeros(len(alive), dtype=np.float32)
    survivors = []
    for cut, count in enumerate(counts):
        for token in alive:
            importance[token] += np.float32(layers[cut]) * received[cut][token]
        alive = [alive[place] for place in top_k(importance[alive], count)]
        survivors.append(alive)
    return survivors


def heads_left(importance: Sequence[Sequence[float]], share: float) -> list[set[int]]:
    """Heads of each layer that stay: whole layers first, then the weakest by what they gave so far go one by one."""
    layers, heads = len(importance), len(importance[0])
    whole = max(1, round(0.3 * layers))
    left = set(range(heads))
    result = []
    for layer in range(layers):
        if layer >= whole:
            wanted = round(share * heads * (layer - whole + 1) / (layers - whole))
            while heads - len(left) < min(wanted, heads - 1):
                given = {head: sum(importance[before][head] for before in range(layer)) for head in left}
                weakest = min(given.values())
                left = left - {max(head for head in left if given[head] == weakest)}
        result.append(set(left))
    return result
