"""Static-shape building blocks of token selection.

Every function has a fixed output shape and exports to opset 20 without NonZero, Unique, Loop or If. Results depend
on values only, never on how a backend orders equal elements: a tie goes to the lowest token index, NaN sorts last.

A *mask* is bool, True = eligible or kept. *Indices* are int64 positions on the token axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from saccade.policies.base import Grid
from saccade.proto.errors import PolicyError

DISTANCE_STEPS = 2**16
"""Cosine distances are rounded to whole steps, this many per unit.

Two backends differ by about 1e-6 in a cosine. Without rounding, the order of *equal* patches (a blank wall, a
constant image) would be decided by that noise; with it, exact ties stay exact and fall to the lowest index.
"""


def check_keep(keep: int, tokens: int) -> None:
    """Raise if ``keep`` is not a possible number of survivors.

    Raises:
        PolicyError: ``keep`` lies outside 1..tokens.
    """
    if not 1 <= keep <= tokens:
        raise PolicyError(
            f"keep must lie in 1..{tokens} (the visual tokens), found {keep}; choose another keep ratio"
        )


def every_token(embeddings: Float[Tensor, "batch tokens dim"]) -> Int64[Tensor, "batch tokens"]:
    """Return 0..tokens-1 for each robot of the batch: the selection that drops nothing."""
    batch, tokens = embeddings.shape[:2]
    return torch.arange(tokens, device=embeddings.device).expand(batch, tokens)


def top_k_mask(scores: Float[Tensor, "batch tokens"], keep: int) -> Bool[Tensor, "batch tokens"]:
    """Mark the ``keep`` highest scores of each row.

    Only the *values* that TopK returns are used, so the result does not depend on how a backend breaks ties:
    everything above the ``keep``-th value is in, then tokens equal to it in ascending order until the count is met.

    Args:
        scores: Any float; NaN counts as minus infinity.
        keep: 1..tokens.

    Returns:
        Exactly ``keep`` True per row.
    """
    tokens = scores.shape[-1]
    ranked = torch.where(torch.isnan(scores), -math.inf, scores)
    threshold = torch.topk(ranked, keep).values[..., -1:]
    above, reached = (ranked > threshold).float(), (ranked >= threshold).float()
    # Keys are distinct integers, exact in float32: all above come first, then ties, each in token order.
    key = tokens * (above + reached) - _positions(scores)
    return key >= torch.topk(key, keep).values[..., -1:]


def indices_of(mask: Bool[Tensor, "batch tokens"], keep: int) -> Int64[Tensor, "batch {keep}"]:
    """Return the ascending indices of a mask with exactly ``keep`` True per row (sort by TopK, no NonZero)."""
    key = mask.float() * mask.shape[-1] - _positions(mask)
    return torch.topk(key, keep).indices


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


def unit_vectors(embeddings: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
    """Return the directions of the embeddings, float32; a zero vector stays zero, a broken one is NaN."""
    return torch.nn.functional.normalize(embeddings.float(), dim=-1)


def cosine_distances(unit: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens tokens"]:
    """Return 1 - cos between every pair of unit vectors, in whole steps of 1 / ``DISTANCE_STEPS``."""
    scaled = unit * math.sqrt(DISTANCE_STEPS)
    return torch.round(DISTANCE_STEPS - scaled @ scaled.transpose(1, 2))


def max_min_diversity(
    embeddings: Float[Tensor, "batch tokens dim"], eligible: Bool[Tensor, "batch tokens"], keep: int
) -> Int64[Tensor, "batch {keep}"]:
    """Greedily pick ``keep`` eligible tokens, each as far as possible from those already picked.

    The first pick is the token whose nearest eligible neighbour is farthest; then ``argmax_a min_{s in S} d(a, s)``.
    The loop is unrolled: ArgMax, Gather and Min per pick. A token whose embedding is not finite is picked last.

    Args:
        embeddings: What distance is measured on.
        eligible: At least ``keep`` True per row, else indices repeat.
        keep: Number of picks.

    Returns:
        Distinct indices in the order picked.

    Source:
        DivPrune (2503.02175), as VLA-Pruner (2511.16449) applies it to the union of two top-k sets. Deviation:
        distances are rounded, see ``DISTANCE_STEPS``.
    """
    tokens = eligible.shape[-1]
    unit = unit_vectors(embeddings)
    broken = torch.isnan(unit.sum(dim=-1))
    distance = cosine_distances(torch.where(broken.unsqueeze(-1), 0.0, unit))
    position = _positions(eligible)
    itself = torch.where(position.unsqueeze(0) == position.unsqueeze(1), math.inf, 0.0)
    closed = torch.where(eligible, 0.0, math.inf)
    # No token is newer than this: minus infinity if it must not be picked, -1 (older than a duplicate) if broken.
    ceiling = torch.where(eligible, torch.where(broken, -1.0, math.inf), -math.inf)
    newness = torch.minimum(ceiling, (distance + itself + closed.unsqueeze(2)).amin(dim=1))
    # A kept token is at minus infinity from itself: picking it closes it, whatever the arithmetic says of d(a, a).
    from_kept = distance - itself
    picks: list[Tensor] = []
    for _ in range(keep):
        pick = newness.argmax(dim=-1, keepdim=True)
        row = torch.gather(from_kept, 1, pick.unsqueeze(-1).expand(-1, -1, tokens)).squeeze(1)
        newness = torch.minimum(newness if picks else ceiling, row)
        picks.append(pick)
    return torch.cat(picks, dim=1)


def split_evenly(keep: int, views: int) -> tuple[int, ...]:
    """Divide ``keep`` over ``views`` as evenly as integers allow; earlier views get the remainder."""
    return tuple(keep // views + (view < keep % views) for view in range(views))


def choose_per_view(
    choose: Callable[[Sequence[Tensor], int], Tensor], tensors: Sequence[Tensor], grid: Grid, keep: int
) -> Tensor:
    """Apply a selection to each view with its share of ``keep``.

    Views with equal shares are folded into the batch, so the unrolled graph grows with the largest share only.

    Args:
        choose: Maps tensors ``(batch, tokens, ...)`` and a count to ascending indices ``(batch, count)``.
        tensors: ``(batch, tokens, ...)`` each, tokens in (view, row, column) order.
        grid: The token grid.
        keep: Survivors of all views together.

    Returns:
        int64 ``(batch, keep)``, ascending over the whole observation.
    """
    shares = split_evenly(keep, grid.views)
    per_view = grid.rows * grid.columns
    kept: list[Tensor] = []
    for share in sorted(set(shares) - {0}, reverse=True):
        first, count = shares.index(share), shares.count(share)
        folded = [_fold_views(tensor, grid.views, first, count) for tensor in tensors]
        local = choose(folded, share)
        start = torch.arange(first, first + count, device=local.device).unsqueeze(1) * per_view
        kept.append((local.reshape(-1, count, share) + start).flatten(1))
    return torch.cat(kept, dim=1)


def _fold_views(tensor: Tensor, views: int, first: int, count: int) -> Tensor:
    """(batch, views * n, ...) -> (batch * count, n, ...) of the views first..first+count-1."""
    by_view = tensor.reshape(tensor.shape[0], views, -1, *tensor.shape[2:])
    return by_view[:, first : first + count].flatten(0, 1)


def _positions(like: Tensor) -> Tensor:
    """Token positions as float32 ``(tokens,)``."""
    return torch.arange(like.shape[-1], device=like.device, dtype=torch.float32)
