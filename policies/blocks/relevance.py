"""Two scores and one budget: which tokens stand high in either, or in both together.

Each function takes a semantic score ``(batch, tokens)``, an action score ``(batch, tokens)``, embeddings
``(batch, tokens, dim)``, and how many tokens survive; it returns them, int64 ``(batch, keep)``, ascending.

Source:
    VLA-Pruner (2511.16449), union and redundancy filter, and the ablations of both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from saccade.policies.blocks.diversity import max_min_diversity
from saccade.policies.blocks.selection import (
    as_share,
    ascending,
    gather_tokens,
    keep_top_k,
    masked_first,
    ranks,
    top_k_mask,
)


def union_thinned(scored: Sequence[Tensor], keep: int) -> Tensor:
    """Unite the semantic and the action top-k and thin the union to ``keep`` by max-min diversity."""
    semantic, action, embeddings = scored
    # Both rankings in one: half the nodes.
    relevant = top_k_mask(torch.stack((semantic, action)), keep).any(dim=0)
    # The union has at most 2 k tokens: distances are taken among so many, not among all.
    slots = min(2 * keep, relevant.shape[1])
    if slots == relevant.shape[1]:
        return ascending(max_min_diversity(embeddings, relevant, keep))
    candidates, eligible = masked_first(relevant, slots)
    picks = max_min_diversity(gather_tokens(embeddings, candidates), eligible, keep)
    return ascending(torch.gather(candidates, 1, picks))


def union_unfiltered(scored: Sequence[Tensor], keep: int) -> Tensor:
    """Take the tokens whose better rank of the two scores is best, ties to the lowest index."""
    semantic, action, _ = scored
    return keep_top_k(-torch.minimum(ranks(semantic), ranks(action)), keep)


def fused(scored: Sequence[Tensor], keep: int) -> Tensor:
    """Take the top-k of the mean of both scores, each scaled to sum 1."""
    semantic, action, _ = scored
    return keep_top_k(as_share(semantic) + as_share(action), keep)


RELEVANCE: Mapping[str, Callable[[Sequence[Tensor], int], Tensor]] = {
    "union": union_thinned,
    "semantic": lambda scored, keep: keep_top_k(scored[0], keep),
    "action": lambda scored, keep: keep_top_k(scored[1], keep),
    "fused": fused,
    "unfiltered": union_unfiltered,
}
"""Ways to choose by two scores, by name."""
