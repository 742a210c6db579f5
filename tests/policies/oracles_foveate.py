"""foveate's choice of patches written slowly from its docstring, in NumPy and float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def score(
    now: Floats,
    before: Floats,
    ages: Floats,
    attention: Floats,
    views: int,
    weights: tuple[float, float, float],
) -> list[float]:
    """What speaks for each patch of all views.

    Args:
        now: Raw patches, ``(tokens, values)``.
        before: The patches as they were encoded.
        ages: Control steps since then.
        attention: Smoothed attention of each token, not negative.
        views: How many views share the tokens evenly.
        weights: Of attention, of an age, and the levels that are noise.
    """
    by_attention, by_age, noise = weights
    tokens = len(now)
    each = tokens // views
    change = [max(0.0, float(np.mean(np.abs(now[t] - before[t]))) - noise) for t in range(tokens)]
    found = []
    for token in range(tokens):
        view = token // each
        mean = sum(change[view * each : (view + 1) * each]) / each
        relative = change[token] / mean if mean > 0 else 0.0
        share = float(attention[token]) / float(sum(attention)) if sum(attention) > 0 else 0.0
        found.append(relative + by_attention * share * tokens + by_age * float(ages[token]))
    return found


def encoded(scores: list[float], ages: Floats, views: int, keep: int, max_age: int) -> list[int]:
    """The patches of all views that are encoded: ``keep`` of each, the oldest few of them whatever their score."""
    each = len(scores) // views
    due = -(-each // max_age)
    chosen: list[int] = []
    for view in range(views):
        own = list(range(view * each, (view + 1) * each))
        oldest = sorted(own, key=lambda token: (-ages[token], -scores[token], token))[:due]
        best = sorted((t for t in own if t not in oldest), key=lambda token: (-scores[token], token))
        chosen += sorted(oldest + best[: keep - due])
    return chosen


def smoothed(before: Floats, action: Floats, text: Floats, share_of_text: float, stays: float) -> Floats:
    """The attention of one more control step, of which every token was seen, in the smoothed estimate."""
    row = (1 - share_of_text) * action.astype(np.float64) + share_of_text * text.astype(np.float64)
    row /= row.sum()
    return row if before.sum() == 0 else stays * before + (1 - stays) * row
