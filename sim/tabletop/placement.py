"""Rejection sampling: where there is room for one thing more."""

from __future__ import annotations

import numpy as np

_TRIES = 40


def place(
    rng: np.random.Generator,
    into: list[np.ndarray],
    gaps: list[tuple[list[np.ndarray], float]],
    low: np.ndarray,
    high: np.ndarray,
) -> bool:
    """Draw a point that keeps its distance from what lies there already, and add it.

    Args:
        rng: Source of randomness.
        into: Where the point goes, ``(2,)`` metres each.
        gaps: Points with the distance that must be kept from each, metres; NaN points are absent.
        low: Least x and y, ``(2,)`` metres.
        high: Greatest x and y, ``(2,)`` metres.

    Returns:
        Whether there was room.
    """
    for _ in range(_TRIES):
        point = rng.uniform(low, high)
        if all(not (np.linalg.norm(point - other) < gap) for others, gap in gaps for other in others):
            into.append(point)
            return True
    return False
