"""Greedy diversity: pick tokens that are unlike those already picked. Static shapes, deterministic ties."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from saccade.policies.blocks.greedy import greedy_picks
from saccade.policies.blocks.selection import positions

DISTANCE_STEPS = 2**16
"""Cosine distances are rounded to whole steps, this many per unit.

Two backends differ by about 1e-6 in a cosine. Without rounding, the order of *equal* patches (a blank wall, a
constant image) would be decided by that noise; with it, exact ties stay exact and fall to the lowest index. It costs
nothing while embeddings differ (all 64 picks of 256 as without it up to a mean cosine of 0.98); where all are alike
(0.997 and more) a k-centre picks a quarter of its tokens differently.
"""


def unit_vectors(embeddings: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
    """Return the directions of the embeddings, float32; a zero vector stays zero, a broken one is NaN."""
    return torch.nn.functional.normalize(embeddings.float(), dim=-1)


def cosine_distances(unit: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens tokens"]:
    """Return 1 - cos between every pair of unit vectors, in whole steps of 1 / ``DISTANCE_STEPS``."""
    scaled = unit * math.sqrt(DISTANCE_STEPS)
    return torch.round(DISTANCE_STEPS - scaled @ scaled.transpose(1, 2))


def gains(
    embeddings: Float[Tensor, "batch tokens dim"],
) -> tuple[Float[Tensor, "batch tokens tokens"], Bool[Tensor, "batch tokens"]]:
    """Return what each token is from each other one, and which embeddings are not finite.

    A token is at minus infinity from itself: picking it closes it, whatever the arithmetic says of d(a, a). One that is
    not finite is at the distance of a zero vector.
    """
    unit = unit_vectors(embeddings)
    broken = torch.isnan(unit.sum(dim=-1))
    distance = cosine_distances(torch.where(broken.unsqueeze(-1), 0.0, unit))
    return torch.where(_itself(broken), -math.inf, distance), broken


def _itself(like: Tensor) -> Tensor:
    """Return bool ``(tokens, tokens)``, True on the diagonal."""
    position = positions(like)
    return position.unsqueeze(0) == position.unsqueeze(1)


def max_min_diversity(
    embeddings: Float[Tensor, "batch tokens dim"], eligible: Bool[Tensor, "batch tokens"], keep: int
) -> Int64[Tensor, "batch {keep}"]:
    """Greedily pick ``keep`` eligible tokens, each as far as possible from those already picked.

    The first pick is the token whose nearest eligible neighbour is farthest; then ``argmax_a min_{s in S} d(a, s)``.
    A token whose embedding is not finite is picked last.

    Args:
        embeddings: Vectors between which distance is measured.
        eligible: Tokens that may be picked, at least ``keep`` per row, else indices repeat.
        keep: How many tokens are picked.

    Returns:
        Distinct indices in the order picked.

    Source:
        DivPrune (2503.02175), as VLA-Pruner (2511.16449) applies it to the union of two top-k sets. Deviation:
        distances are rounded, see ``DISTANCE_STEPS``.
    """
    gain, broken = gains(embeddings)
    others = torch.where(_itself(eligible), math.inf, gain) + torch.where(eligible, 0.0, math.inf).unsqueeze(
        2
    )
    # No token is newer than this: minus infinity if it must not be picked, -1 (older than a duplicate) if broken.
    ceiling = torch.where(eligible, torch.where(broken, -1.0, math.inf), -math.inf)
    newness = torch.minimum(ceiling, others.amin(dim=1))
    picks: Tensor = greedy_picks(gain, newness, ceiling, keep, add=False)
    return picks


def max_sum_diversity(
    embeddings: Float[Tensor, "batch tokens dim"], first: Int64[Tensor, "batch 1"], keep: int
) -> Int64[Tensor, "batch {keep}"]:
    """Greedily pick ``keep`` tokens, each with the smallest summed cosine to those already picked.

    A token whose embedding is not finite is picked last.

    Args:
        embeddings: Vectors between which distance is measured.
        first: The first pick (the pivot).
        keep: How many tokens are picked.

    Returns:
        Distinct indices in the order picked.

    Source:
        ToDRE (2505.18757 v2), stage 1: ``argmin_j sum_{s in S} cos(x_j, x_s)``. Deviation: distances are rounded, see
        ``DISTANCE_STEPS``.
    """
    # Below every sum of finite tokens, above minus infinity.
    return _from_pivot(embeddings, first, keep, start=0.0, broken_start=-1e30, add=True)


def farthest_first(
    embeddings: Float[Tensor, "batch tokens dim"], first: Int64[Tensor, "batch 1"], keep: int
) -> Int64[Tensor, "batch {keep}"]:
    """Greedily pick ``keep`` tokens from ``first`` on, each as far as possible from those already picked.

    Source:
        ToDRE (2505.18757 v1), stage 1, the usual greedy for k centres: ``argmax_j min_{s in S} (1 - cos(x_j, x_s))``.
        Deviation: distances are rounded, see ``DISTANCE_STEPS``.

    Args:
        embeddings: Vectors between which distance is measured.
        first: The first pick (the pivot).
        keep: How many tokens are picked.
    """
    # Older than a duplicate, newer than what is picked.
    return _from_pivot(embeddings, first, keep, start=math.inf, broken_start=-1.0, add=False)


def _from_pivot(
    embeddings: Tensor, first: Tensor, keep: int, *, start: float, broken_start: float, add: bool
) -> Tensor:
    """Pick greedily from a given first token; ``start`` is the state before any pick."""
    gain, broken = gains(embeddings)
    pivot = (positions(broken) == first).float()
    picks: Tensor = greedy_picks(gain, pivot, torch.where(broken, broken_start, start), keep, add=add)
    return picks
