"""Budgets: how a number of tokens is shared by views and by cuts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from saccade.policies.base import Grid
from saccade.proto.errors import PolicyError


def split_evenly(keep: int, views: int) -> tuple[int, ...]:
    """Divide ``keep`` over ``views`` as evenly as integers allow; earlier views get the remainder."""
    return tuple(keep // views + (view < keep % views) for view in range(views))


def split_by_weight(keep: int, weights: Sequence[float], limit: int) -> tuple[int, ...]:
    """Divide ``keep`` in proportion to ``weights``, at most ``limit`` each; the largest remainders get what is left.

    Raises:
        PolicyError: More is to be kept than ``limit`` for each.
    """
    if keep > limit * len(weights):
        raise PolicyError(
            f"expected at most {limit} tokens for each of {len(weights)} views, found {keep} in all."
        )
    shares = [0] * len(weights)
    while (left := keep - sum(shares)) > 0:
        open_ = [view for view, share in enumerate(shares) if share < limit]
        total = sum(weights[view] for view in open_) or 1.0
        wanted = {view: left * weights[view] / total for view in open_}
        for view in open_:
            shares[view] = min(limit, shares[view] + int(wanted[view]))
        if not any(int(wanted[view]) for view in open_):
            best = max(open_, key=lambda view: (wanted[view] - int(wanted[view]), -view))
            shares[best] += 1
    return tuple(shares)


def nested_counts(tokens: int, keep: int, dropped: Sequence[float]) -> tuple[int, ...]:
    """Return the survivors of several cuts of which the last leaves ``keep``.

    Args:
        tokens: Before the first cut.
        keep: After the last one.
        dropped: For each cut the share, of all tokens that will be dropped, that is gone behind it; rises to 1.
    """
    return tuple(tokens - round(share * (tokens - keep)) for share in dropped)


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
        tensors: ``(batch, tokens, ...)`` each, tokens in (view, row, column) order.
        grid: The token grid.
        keep: Survivors of all views together.
        shares: Of each view; None = as even as integers allow.

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
