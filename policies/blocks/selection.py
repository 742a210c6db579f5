"""Static-shape building blocks of token selection.

Every function has a fixed output shape and exports to opset 20 without NonZero, Unique, Loop or If. Results depend
on values only, never on how a backend orders equal elements: a tie goes to the lowest token index, NaN sorts last.

A *mask* is bool, True = eligible or kept. *Indices* are int64 positions on the token axis.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

SMALLEST_SUM = 1e-12
"""Floor of a divisor, so that all zeros stay zeros."""


def top_k_mask(scores: Float[Tensor, "*batch tokens"], keep: int) -> Bool[Tensor, "*batch tokens"]:
    """Mark the ``keep`` highest scores of each row.

    Only the *values* that TopK returns are used, so the result does not depend on how a backend breaks ties:
    everything above the ``keep``-th value is in, then tokens equal to it in ascending order until the count is met.

    Args:
        scores: Score of each token, any float; NaN counts as minus infinity.
        keep: How many tokens are marked, 1..tokens.

    Returns:
        Exactly ``keep`` True per row.
    """
    tokens = scores.shape[-1]
    ranked = torch.where(torch.isnan(scores), -math.inf, scores)
    threshold = torch.topk(ranked, keep).values[..., -1:]
    above, reached = (ranked > threshold).float(), (ranked >= threshold).float()
    # Keys are distinct integers, exact in float32: all above come first, then ties, each in token order.
    key = tokens * (above + reached) - positions(scores)
    return key >= torch.topk(key, keep).values[..., -1:]


def masked_first(
    mask: Bool[Tensor, "batch tokens"], slots: int
) -> tuple[Int64[Tensor, "batch {slots}"], Bool[Tensor, "batch {slots}"]]:
    """Return the indices of the mask's tokens, ascending, then those of others, ascending; and which are the mask's."""
    first = torch.topk(mask.float() * mask.shape[-1] - positions(mask), slots)
    return first.indices, first.values > 0


def indices_of(mask: Bool[Tensor, "batch tokens"], keep: int) -> Int64[Tensor, "batch {keep}"]:
    """Return the ascending indices of a mask with exactly ``keep`` True per row (sort by TopK, no NonZero)."""
    return masked_first(mask, keep)[0]


def keep_top_k(scores: Float[Tensor, "batch tokens"], keep: int) -> Int64[Tensor, "batch {keep}"]:
    """Return the ascending indices of the ``keep`` highest scores of each row."""
    return indices_of(top_k_mask(scores, keep), keep)


def ascending(indices: Int64[Tensor, "batch keep"]) -> Int64[Tensor, "batch keep"]:
    """Sort distinct indices. In float32, which every engine's TopK takes; exact below 2**24."""
    return (-torch.topk(-indices.float(), indices.shape[-1]).values).long()


def gather_tokens(
    tokens: Float[Tensor, "batch tokens dim"], kept: Int64[Tensor, "batch keep"]
) -> Float[Tensor, "batch keep dim"]:
    """Take the kept tokens of each robot, in the order of ``kept``."""
    return torch.gather(tokens, 1, kept.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def ranks(scores: Float[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens"]:
    """Return each token's place in descending order, 0 = highest; ties by index, NaN last. tokens^2 comparisons."""
    ranked = torch.where(torch.isnan(scores), -math.inf, scores)
    index = positions(scores)
    other, own = ranked.unsqueeze(1), ranked.unsqueeze(2)
    ahead = (other > own) | ((other == own) & (index < index.unsqueeze(1)))
    return ahead.float().sum(dim=2)


def as_share(scores: Float[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens"]:
    """Scale non-negative scores to sum 1 for each robot; NaN and infinity count as 0, all zeros stay zeros."""
    clean = torch.where(scores.abs() < math.inf, scores, 0.0)
    return clean / clean.sum(dim=1, keepdim=True).clamp(min=SMALLEST_SUM)


def positions(like: Tensor) -> Tensor:
    """Return the token positions 0, 1, 2, ... as float32 ``(tokens,)``."""
    return torch.arange(like.shape[-1], device=like.device, dtype=torch.float32)
