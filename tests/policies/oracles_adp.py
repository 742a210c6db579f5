"""ADP in plain NumPy: the split of a budget by views, the choice in each view, and the motion gate."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.policies.oracles import Floats, top_k


def is_fast(displacements: Sequence[float], window: int, look_back: int) -> bool:
    """Whether the robot is in a fast phase after the last of ``displacements``.

    Displacement i is the length of the net translation that action chunk i commands; the first belongs to the first
    chunk after a reset. With ``m[t]`` the sum of displacements ``t - window + 1 .. t``:

    - ``m[t] > max(m[t - 1], ..., m[t - look_back])``: fast from here on;
    - ``m[t] < min(m[t - 1], ..., m[t - look_back])``: slow from here on;
    - else as it was after chunk t - 1.

    Slow at first, and as long as one of these windows reaches back behind the reset: for the first
    ``window + look_back - 1`` chunks. Slow, too, where one of these displacements is not finite.

    Our reading. The released settings name this rule (adjacent windows, their extremes, three and two, no tolerance,
    net displacement); its code is not public. That windows slide chunk by chunk, that the phase is held between the
    extremes, and that it starts slow is ours.
    """
    fast = False
    for end in range(1, len(displacements) + 1):
        seen = [float(value) for value in displacements[max(0, end - window - look_back) : end]]
        if len(seen) < window + look_back or not all(math.isfinite(value) for value in seen):
            fast = False
            continue
        motions = [math.fsum(seen[start : start + window]) for start in range(look_back + 1)]
        latest, earlier = motions[-1], motions[:-1]
        if latest > max(earlier):
            fast = True
        elif latest < min(earlier):
            fast = False
    return fast


def adp(scores: Floats, shares: Sequence[int]) -> list[int]:
    """The best tokens of each view by score, ``shares[v]`` of view v; ascending over the observation."""
    per_view = len(scores) // len(shares)
    kept = []
    for view, share in enumerate(shares):
        kept += [
            view * per_view + token for token in top_k(scores[view * per_view : (view + 1) * per_view], share)
        ]
    return kept


def shares_by_weight(keep: int, weights: Sequence[float], limit: int) -> list[int]:
    """Find t with sum_v min(limit, t w_v) = keep by bisection; round these parts by the largest remainders."""
    low, high = 0.0, limit / min(weights)
    for _ in range(200):
        middle = (low + high) / 2
        filled = sum(min(float(limit), middle * weight) for weight in weights)
        low, high = (middle, high) if filled < keep else (low, middle)
    exact = [round(min(float(limit), high * weight), 6) for weight in weights]
    shares = [math.floor(part) for part in exact]
    order = sorted(range(len(weights)), key=lambda view: (shares[view] - exact[view], view))
    for view in order[: keep - sum(shares)]:
        shares[view] += 1
    return shares
