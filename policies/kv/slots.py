"""Slots of a key-value cache of fixed capacity: what each holds, where the next token goes, which are given up.

``positions`` is int64 ``(batch, kv_heads, capacity)``: the position in the sequence of the token whose key and value a
slot holds, ``EMPTY`` for a free slot. It is the only record of what is valid. Nothing is ever moved: an evicted slot
becomes free, and the next token is written into the first free one, so slots are in no order but positions tell.

Every function has a fixed output shape and exports without NonZero, Loop or If.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from saccade.policies.blocks.selection import positions as slot_numbers

EMPTY = -1
"""Position of a slot that holds no token."""
POSITION_LIMIT = 1 << 22
"""Positions stay below this: up to there ties are broken in exact float32 integers."""
_FAR = 1e30
"""A score above every finite one and below infinity."""


def valid_slots(positions: Int64[Tensor, "batch heads capacity"]) -> Bool[Tensor, "batch heads capacity"]:
    """Mark the slots that hold a token."""
    return positions >= 0


def used(positions: Int64[Tensor, "batch heads capacity"]) -> Float[Tensor, "batch heads 1"]:
    """Count the slots that hold a token."""
    return valid_slots(positions).float().sum(dim=-1, keepdim=True)


def next_slot(positions: Int64[Tensor, "batch heads capacity"]) -> Int64[Tensor, "batch heads"]:
    """Return where the next token goes: the first free slot; in a full cache the slot of the oldest token."""
    return positions.float().argmin(dim=-1)


def write_position(
    positions: Int64[Tensor, "batch heads capacity"],
    slot: Int64[Tensor, "batch heads"],
    now: Int64[Tensor, " batch"],
) -> Int64[Tensor, "batch heads capacity"]:
    """Return the positions with that of the token ``now`` in its slot."""
    fresh = now[:, None, None].expand(*slot.shape, 1)
    return positions.scatter(-1, slot.unsqueeze(-1), fresh)


def protected_slots(
    positions: Int64[Tensor, "batch heads capacity"], now: Int64[Tensor, " batch"], start: int, recent: int
) -> Bool[Tensor, "batch heads capacity"]:
    """Mark tokens at the first ``start`` positions and at the last ``recent``, the current one included."""
    age = now[:, None, None] - positions
    return valid_slots(positions) & ((positions < start) | (age < recent))


def lowest_slots(
    importance: Float[Tensor, "batch heads capacity"],
    candidates: Bool[Tensor, "batch heads capacity"],
    positions: Int64[Tensor, "batch heads capacity"],
    count: int,
) -> Bool[Tensor, "batch heads capacity"]:
    """Mark the ``count`` candidates of lowest importance; a tie goes to the oldest token, NaN counts as lowest.

    Only the values that TopK returns are used, so the result does not depend on how a backend breaks ties.

    Args:
        importance: How much each slot matters, any float.
        candidates: Slots that hold a token and may be given up.
        positions: Position of the token in each slot, distinct where ``candidates`` is True.
        count: How many slots are marked, 1..capacity.

    Returns:
        Exactly ``count`` True in each row that has so many candidates, else every candidate.
    """
    clean = torch.where(torch.isnan(importance), _FAR, -importance).clamp(-_FAR, _FAR)
    score = torch.where(candidates, clean, -torch.inf)
    threshold = torch.topk(score, count).values[..., -1:]
    above, reached = (score > threshold).float(), (score >= threshold).float()
    # Distinct integers, exact in float32: all above the threshold come first, then ties, oldest first in each.
    key = POSITION_LIMIT * (above + reached) - positions.float()
    return candidates & (key >= torch.topk(key, count).values[..., -1:])


def slot_ranks(positions: Int64[Tensor, "batch heads capacity"]) -> Int64[Tensor, "batch heads capacity"]:
    """Return how many tokens of the cache are older than a slot's: its position once the cache is read in order.

    Meaningless for free slots. capacity^2 comparisons.
    """
    older = valid_slots(positions).unsqueeze(-2) & (positions.unsqueeze(-2) < positions.unsqueeze(-1))
    return older.float().sum(dim=-1).long()


def marked_first(
    mask: Bool[Tensor, "batch capacity"], count: int
) -> tuple[Int64[Tensor, "batch {count}"], Bool[Tensor, "batch {count}"]]:
    """Return the ascending indices of a mask with at most ``count`` True, then fillers; and which are no fillers."""
    key = mask.float() * mask.shape[-1] - slot_numbers(mask)
    indices = torch.topk(key, count).indices
    return indices, torch.gather(mask, 1, indices)
