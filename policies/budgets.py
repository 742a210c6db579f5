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
