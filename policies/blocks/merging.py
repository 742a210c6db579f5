"""Merging: what dropped tokens leave behind in the survivors, as one matrix of fixed shape.

A merge is described by ``into``: for each token the slot of the survivor that takes it up, or ``NOWHERE``. A merged
token lives on at the position of its survivor.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from saccade.policies.blocks.selection import SMALLEST_SUM

NOWHERE = -1
"""Slot of a token that is dropped and leaves nothing behind."""


def slots_of(kept: Int64[Tensor, "batch keep"], alive: int) -> Int64[Tensor, "batch {alive}"]:
    """Return ``into`` for a selection that merges nothing: each survivor's own slot, ``NOWHERE`` for the others."""
    batch, keep = kept.shape
    slots = torch.arange(keep, device=kept.device).expand(batch, keep)
    return torch.full((batch, alive), NOWHERE, device=kept.device).scatter(1, kept, slots)


def weighted_means(
    into: Int64[Tensor, "batch alive"],
    weights: Float[Tensor, "batch alive"],
    kept: Int64[Tensor, "batch keep"],
) -> Float[Tensor, "batch keep alive"]:
    """Return the mix in which each survivor is the weighted mean of the tokens that go into its slot.

    Args:
        into: Slot that each token goes into, or ``NOWHERE``; each survivor goes into its own.
        weights: How much each token counts, not negative; what is not finite counts as 0. A slot whose weights are all
            0 holds its survivor alone.
        kept: Positions of the survivors, ascending.
    """
    keep = kept.shape[1]
    slots = torch.arange(keep, device=into.device)[None, :, None]
    clean = torch.where(weights.abs() < torch.inf, weights, 0.0).clamp(min=0.0)
    shares = torch.where(into.unsqueeze(1) == slots, clean.unsqueeze(1), 0.0)
    total = shares.sum(dim=2, keepdim=True)
    alone = each_alone(kept, into.shape[1])
    return torch.where(total > SMALLEST_SUM, shares / total.clamp(min=SMALLEST_SUM), alone)


def each_alone(kept: Int64[Tensor, "batch keep"], alive: int) -> Float[Tensor, "batch keep {alive}"]:
    """Return the mix in which each survivor is itself and nothing else."""
    return (kept.unsqueeze(2) == torch.arange(alive, device=kept.device)).float()


def nearest_slots(closeness: Float[Tensor, "batch alive keep"]) -> Int64[Tensor, "batch alive"]:
    """Return ``into`` by closeness to each survivor: the closest slot, ties to the first.

    Args:
        closeness: Minus infinity where a token must not go; NaN counts as that. ``NOWHERE`` if it may go nowhere.
    """
    ranked = torch.where(torch.isnan(closeness), -torch.inf, closeness)
    open_ = ranked.amax(dim=2) > -torch.inf
    return torch.where(open_, ranked.argmax(dim=2), NOWHERE)
