"""quota: views that matter for the task get more of the budget than others.

Paper: "QuoTA" (arXiv 2503.08689, AAAI 2026); code MAC-AutoML/QuoTA, read at ec194d7. Training-free. It shares a budget;
it ranks no token inside a view. Views are cameras, or cameras times history frames.

1. *Score* s_v of each view: the probability that a small vision-language model sees one of the task's objects in it
   (:mod:`saccade.policies.blocks.query_objects` finds the objects). The host sets it once per task.
2. *Share*: ``w = (100 s)^2``, ``p = w / sum w``.
3. *Budget* of a view: ``n = int(N p)``, at most its own grid; the surplus is shared in proportion. None: left out.
4. *Resample* its tokens to h x w: h = w = floor(sqrt n), and one row more if it fits.

:mod:`saccade.policies.blocks.view_budgets` has these rules for a host that may build a sequence of any length. Shapes
of a graph cannot follow scores, so here they take one of two forms with a fixed number of tokens:

- ``form="levels"``: a table of grid sizes for rank 1, 2, ...: views are sorted by score, and the one that ranks r-th
  is resampled to the r-th size. The shares of the ranks fall geometrically, by ``spread``; steps 3 and 4 turn them
  into sizes. Only the order of scores counts, step 2 changes nothing.
- ``form="flat"``: one top-k over all tokens of share times token score, step 2 with any token score.

Deviations and readings:

- The factor 100 cancels out of p, so it is no option; ``exponent`` sharpens the shares of ``flat``.
- A grid is never larger than the view's own; the code's first mode has no such limit and invents tokens.
- Clipping repeats until nothing exceeds the limit.
- ``resample``: ``bilinear`` (the default), ``adaptive`` average pooling, ``even`` sub-sampling at the nearest tokens,
  ``merge`` (ToMe's bipartite merging, as many tokens as the grid would have). Line-break tokens come along, that of
  the nearest row for each row. Row- and column-wise merging is not built.
- ``even``: the code takes ``linspace(0, N - 1, n)`` along the list of tokens, across its rows; here the tokens nearest
  to an h x w grid, so that a row stays a row and has its line break.
- ``merge``: the code pools 2 x 2 first, then merges to n tokens, in every round as if each stood for itself alone, and
  leaves them in the order of matching; here a view's own tokens are merged to as many as the grid has, each the mean of
  all that went into it, in raster order.
- Each output token lives at the position of the input token nearest to it; order in time and space stays. In ``merge``
  at the position of the token that others were merged into.
- ``scores="attention"`` needs no host: s is the mean attention that the view's patches would receive from the
  instruction in the first decoder layer.
- Until the host sets scores all are 1: the first view gets the largest grid.
- Line-break tokens rank last in ``flat``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from saccade.policies.base import (
    Carry,
    Grid,
    ModelShape,
    Selection,
    SelectionInputs,
    TokenPolicy,
    decoder_cut,
)
from saccade.policies.blocks.line_breaks import (
    is_line_break,
    line_break_indices,
    patch_columns,
    patch_indices,
)
from saccade.policies.blocks.resampling import level_matrix, level_positions, merged_pairs, nearest
from saccade.policies.blocks.selection import SMALLEST_SUM, as_share, gather_tokens, keep_top_k, ranks
from saccade.policies.blocks.view_budgets import level_sizes, level_sizes_of_total, tokens_of
from saccade.policies.config import PolicyConfig, require, tunable
from saccade.policies.signals import (
    AttentionAhead,
    QueryRows,
    Signal,
    ViewScores,
    VisionAttention,
    VisionRows,
)

_LEAST_SHARE = 1e-6
"""A share below every one that matters, and above what float32 loses in a product."""


@dataclass(frozen=True, kw_only=True)
class QuotaConfig(PolicyConfig):
    """Options of quota.

    Args:
        form: How the budget is given out: ``levels``, a grid size for each rank; ``flat``, the best tokens by share
            times token score.
        scores: Who scores the views: the host for the ``task``, or the ``attention`` of the instruction.
        spread: How much smaller the share of each rank is than that of the one before (``levels``); 1 = all alike.
        resample: How a view is resampled to its size (``levels``): ``bilinear``, ``adaptive``, ``even`` or ``merge``.
        exponent: Power of the scores (``flat``); 2 is the paper's, 0 gives all views the same share.
        rank_by: What ranks tokens (``flat``): attention ``received`` from all patches in the last vision block, or the
            instruction's in the first decoder layer (``text``).
        tower: Vision tower that is read (``flat`` with ``received``). None = the last one.
    """

    form: Literal["levels", "flat"] = "levels"
    scores: Literal["task", "attention"] = "task"
    spread: float = tunable(0.5, 0.2, 1)
    resample: Literal["bilinear", "adaptive", "even", "merge"] = tunable("bilinear")
    exponent: float = tunable(2.0, 0.5, 4)
    rank_by: Literal["received", "text"] = tunable("received")
    tower: int | None = None

    def __post_init__(self) -> None:
        require(0 < self.spread <= 1, "spread", "above 0 and at most 1", self.spread)
        require(0 <= self.exponent <= 16, "exponent", "in 0..16", self.exponent)


class Quota(TokenPolicy):
    """A budget over views, at the decoder's entry; the module docstring has both forms.

    In the form ``levels`` a budget buys whole grids: fewer tokens than ``keep`` may survive.
    """

    name: ClassVar[str] = "quota"
    options = QuotaConfig

    def __init__(self, config: QuotaConfig, shape: ModelShape) -> None:
        towers = len(shape.towers)
        tower = towers - 1 if config.tower is None else config.tower
        require(
            0 <= tower < towers, "tower", f"in 0..{towers - 1} for a model of {towers} vision towers", tower
        )
        if config.form == "levels":
            shape.grid.require_rows(f"{self.name}, form levels")
        self.config: QuotaConfig = replace(config, tower=tower)
        attention = AttentionAhead(QueryRows.TEXT)
        self._view_signal: Signal = ViewScores() if config.scores == "task" else attention
        received = VisionAttention(VisionRows.PATCHES, (shape.towers[tower].blocks - 1,), tower)
        self._token_signal: Signal = received if config.rank_by == "received" else attention
        signals = (self._view_signal, self._token_signal) if config.form == "flat" else (self._view_signal,)
        self.cuts = decoder_cut(0, *dict.fromkeys(signals))
        self.merges = config.form == "levels" and config.resample != "even"
        self._grid = shape.grid

    def schedule(self, keep: int) -> tuple[int, ...]:
        """Return the budget, or what the levels that it buys have together.

        Raises:
            PolicyError: The budget does not buy one patch.
        """
        if self.config.form == "flat":
            return (keep,)
        return (tokens_of(level_sizes(keep, self._grid, self.config.spread), self._grid),)

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return the views, each resampled to the size of its rank; or the best tokens of all."""
        del carry
        seen = dict(zip(self.cuts[0].signals, inputs.signals, strict=True))
        scores = seen[self._view_signal]
        if self.config.scores == "attention":
            scores = _mean_of_patches(scores, inputs.grid)
        if self.config.form == "levels":
            return self._levels(inputs, scores, keep)
        # A view that is worth nothing comes last, its own best tokens first.
        shares = (
            shares_of(scores, self.config.exponent)
            .clamp(min=_LEAST_SHARE)
            .unsqueeze(2)
            .expand(-1, -1, inputs.grid.per_view)
        )
        ranked = seen[self._token_signal] * shares.flatten(1)
        breaks = is_line_break(inputs.grid).to(ranked.device)
        return Selection(keep_top_k(torch.where(breaks, -math.inf, ranked), keep))

    def _levels(self, inputs: SelectionInputs, scores: Tensor, keep: int) -> Selection:
        """Give the view that ranks r-th the r-th size."""
        grid, mode = inputs.grid, self.config.resample
        rank = ranks(scores)
        first_token = torch.arange(grid.views, device=scores.device) * grid.per_view
        positions, matrices = [], []
        for number, (height, width) in enumerate(level_sizes_of_total(keep, grid, self.config.spread)):
            if height == 0:
                continue
            is_it = (rank == number).float()  # batch, views: one of them
            start = (is_it * first_token).sum(dim=1, keepdim=True).long()
            if mode == "merge":
                tokens = (start + torch.arange(grid.per_view, device=start.device)).long()
                local, matrix = _merged(gather_tokens(inputs.embeddings, tokens), grid, height, width)
            else:
                local = level_positions(grid, height, width).to(start.device).unsqueeze(0)
                matrix = level_matrix(mode, grid, height, width).to(start.device).unsqueeze(0)
            positions.append(start + local)
            matrices.append((is_it[:, None, :, None] * matrix[:, :, None]).flatten(2))
        found = torch.cat(positions, dim=1)
        # Distinct numbers: no tie for a backend to break.
        descending, order = torch.topk(-found.float(), keep)
        kept = (-descending).long()
        return Selection(kept, gather_tokens(torch.cat(matrices, dim=1), order) if self.merges else None)


def shares_of(scores: Tensor, exponent: float) -> Tensor:
    """Return p, each view's share, ``(batch, views)``: as :func:`saccade.policies.blocks.view_budgets.view_shares`."""
    clean = torch.where(scores.abs() < math.inf, scores, 0.0).clamp(min=0.0)
    # Relative to the largest, so that no power overflows.
    relative = clean / clean.amax(dim=1, keepdim=True).clamp(min=SMALLEST_SUM)
    shares = as_share(relative**exponent)
    return torch.where(shares.sum(dim=1, keepdim=True) > 0.5, shares, 1.0 / scores.shape[1])


def _mean_of_patches(attention: Tensor, grid: Grid) -> Tensor:
    """(batch, tokens) -> the mean over each view's patches, ``(batch, views)``."""
    by_row = attention.reshape(attention.shape[0], grid.views, grid.rows, grid.columns)
    return by_row[..., : patch_columns(grid)].mean(dim=(2, 3))


def _merged(view: Tensor, grid: Grid, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Merge the patches of one view to height * width, and carry the line breaks of evenly spaced rows.

    Returns:
        Positions in the view ``(batch, count)``, not sorted, and what they are made of ``(batch, count, per_view)``.
    """
    if not grid.newline:
        return merged_pairs(view, height * width)
    one = grid.view
    patches = patch_indices(one).to(view.device)
    kept, mix = merged_pairs(view[:, patches], height * width)
    breaks = line_break_indices(one)[nearest(grid.rows, height)].to(view.device)
    token = torch.arange(grid.per_view, device=view.device)
    spread = (patches.unsqueeze(1) == token).float()
    alone = (breaks.unsqueeze(1) == token).float()
    batch = view.shape[0]
    return (
        torch.cat([patches[kept], breaks.expand(batch, -1)], dim=1),
        torch.cat([mix @ spread, alone.expand(batch, -1, -1)], dim=1),
    )
