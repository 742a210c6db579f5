"""Budgets: how a number of tokens is shared by views and by cuts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from saccade.policies.base import Grid
from saccade.proto.errors import PolicyError


def split_evenly(keep: int, views: int) -> tuple[int, ...]:
    """Divide ``keep`` over ``views`` as evenly as integers allow; earlier views get the remainder."""
    return tuple(keep // views + (view < keep % views) for view in range(views))


def split_by_weight(keep: int, weights: Sequence[float], limit: int) -> tuple[int, ...]:
    """Divide ``keep`` in proportion to ``weights``, at most ``limit`` each.

    What a full view cannot take goes to the others, in proportion too; evenly if they weigh nothing. Fractions go to
    the largest remainders, equal ones to the earlier view.

    Raises:
        PolicyError: More is to be kept than ``limit`` for each.
    """
    if keep > limit * len(weights):
        raise PolicyError(
            f"expected at most {limit} tokens for each of {len(weights)} views, found {keep} in all."
        )
    shares, parts = [limit] * len(weights), dict(enumerate(weights))
    exact = _proportional(keep, parts)
    while any(part >= limit for part in exact.values()):
        parts = {view: parts[view] for view, part in exact.items() if part < limit}
        exact = _proportional(keep - limit * (len(weights) - len(parts)), parts)
    for view, part in exact.items():
        shares[view] = int(part)
    by_remainder = sorted(exact, key=lambda view: (shares[view] - exact[view], view))
    for view in by_remainder[: keep - sum(shares)]:
        shares[view] += 1
    return tuple(shares)


def _proportional(total: int, weights: Mapping[int, float]) -> dict[int, float]:
    """Split a number by weights, evenly if all are 0; exact up to rounding, so that equal weights get equal parts."""
    mass = sum(weights.values())
    return {
        view: round(total * (weight / mass if mass > 0 else 1.0 / len(weights)), 9)
        for view, weight in weights.items()
    }


def nested_counts(tokens: int, keep: int, dropped: Sequence[float]) -> tuple[int, ...]:
    """Return the survivors of several cuts of which the last leaves ``keep``.

    Args:
        tokens: How many tokens there are before the first cut.
        keep: How many tokens survive the last cut.
        dropped: Share, of all tokens that will be dropped, that is gone behind each cut; rises to 1.
    """
    return tuple(tokens - round(share * (tokens - keep)) for share in dropped)


def interpolated(rows: Sequence[Sequence[float]], at: float) -> tuple[float, ...]:
    """Return the settings at a budget between published ones, linearly.

    Args:
        rows: Published settings, each a budget and what belongs to it; budgets rise.
        at: The budget, at least that of the first row; above the last row's, the last row's settings.
    """
    for (low, *before), (high, *after) in pairwise(rows):
        if at <= high:
            place = (at - low) / (high - low)
            return tuple(a + place * (b - a) for a, b in zip(before, after, strict=True))
    return tuple(rows[-1][1:])


def scaled_layers(published: Sequence[int], layers: int, of: int = 32) -> tuple[int, ...]:
    """Scale the layers of several cuts to another depth; each stays at least 1 and behind the one before.

    Raises:
        PolicyError: The decoder has too few layers.
    """
    scaled: list[int] = []
    for layer in published:
        scaled.append(max(round(layer * layers / of), (scaled[-1] if scaled else 0) + 1))
    for place in range(len(scaled) - 1, -1, -1):
        scaled[place] = min(scaled[place], layers - (len(scaled) - place))
    if scaled and scaled[0] < 1:
        raise PolicyError(
            f"expected more than {len(scaled)} decoder layers for cuts at {list(published)}, found {layers}."
        )
    return tuple(scaled)


def layer_mean(tokens: int, cut_layers: Sequence[int], counts: Sequence[int], layers: int) -> float:
    """Return the mean number of visual tokens over the decoder's layers (the papers' average keep count)."""
    edges = [0, *cut_layers, layers]
    alive = [tokens, *counts]
    return (
        sum(count * (end - start) for count, start, end in zip(alive, edges, edges[1:], strict=False))
        / layers
    )


def choose_per_view(
    choose: Callable[[Sequence[Tensor], int], Tensor],
    tensors: Sequence[Tensor],
    grid: Grid,
    keep: int,
    shares: Sequence[int] | None = None,
) -> Tensor:
    """Apply a selection to each view with its share of ``keep``.

    Views with equal shares are folded into the batch, so the unrolled graph grows with the largest share only.

    Args:
        choose: Maps tensors ``(batch, tokens, ...)`` and a count to ascending indices ``(batch, count)``.
        tensors: What the selection looks at, ``(batch, tokens, ...)`` each, tokens in (view, row, column) order.
        grid: How visual tokens tile the views.
        keep: How many tokens of all views together survive.
        shares: How many tokens of each view survive; None = as even as integers allow.

    Returns:
        int64 ``(batch, keep)``, ascending over the whole observation.
    """
    shares = split_evenly(keep, grid.views) if shares is None else shares
    kept: dict[int, Tensor] = {}
    for share in sorted(set(shares) - {0}, reverse=True):
        views = [view for view, own in enumerate(shares) if own == share]
        folded = [_fold_views(tensor, grid.views, views) for tensor in tensors]
        local = choose(folded, share).reshape(-1, len(views), share)
        kept |= {view: local[:, place] + view * grid.per_view for place, view in enumerate(views)}
    return torch.cat([kept[view] for view in sorted(kept)], dim=1)


def _fold_views(tensor: Tensor, views: int, chosen: Sequence[int]) -> Tensor:
    """(batch, views * n, ...) -> (batch * chosen, n, ...) of some views."""
    by_view = tensor.reshape(tensor.shape[0], views, -1, *tensor.shape[2:])
    return torch.stack([by_view[:, view] for view in chosen], dim=1).flatten(0, 1)
