"""quota: views that matter for the task get more of the budget than others.

Paper: "QuoTA" (arXiv 2503.08689, AAAI 2026); code MAC-AutoML/QuoTA, read at ec194d7. Training-free. It shares a budget;
it ranks no token inside a view. Views are cameras, or cameras times history frames.

1. *Score* s_v of each view: the probability that a small vision-language model sees one of the task's objects in it.
   The host works it out once per task (:mod:`saccade.runtime.scoring.visible_objects`).
2. *Share*: ``w = (100 s)^2``, ``p = w / sum w``.
3. *Budget* of a view: ``n = int(N p)``, at most its own grid; the surplus is shared in proportion. None: left out.
4. *Resample* its tokens to h x w: h = w = floor(sqrt n), and one row more if it fits.

:mod:`saccade.policies.blocks.view_budgets` has these rules for a host that may build a sequence of any length. Shapes
of a graph cannot follow scores, so here they take one of two forms with a fixed number of tokens:

- ``form="levels"``: tables of grid sizes for the view that ranks first, second, ..., from all alike to steep, all with
  the same number of tokens (:mod:`saccade.policies.blocks.level_tables`). The graph takes the table whose shares have
  the smallest distance from those of step 2, and resamples the view that ranks r-th to the r-th size. Views whose
  scores tie have grids of one size.
- ``form="flat"``: one top-k over all tokens of share times token score, step 2 with any token score.

Deviations and readings:

- The factor 100 cancels out of p, so it is no option; ``exponent`` sharpens the shares.
- Between tables shares do not move, and no table is steeper than ``spread``. To make up one total exactly, a grid may
  be up to twice as long as it is wide. The total is what equal views have by steps 3 and 4.
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
- Until the host sets scores all are 1, and views are alike.
- Line-break tokens rank last in ``flat``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
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
from saccade.policies.blocks.level_tables import Table, level_tables, level_total
from saccade.policies.blocks.line_breaks import (
    is_line_break,
    line_break_indices,
    patch_columns,
    patch_indices,
)
from saccade.policies.blocks.resampling import level_matrix, level_positions, merged_pairs, nearest
from saccade.policies.blocks.selection import (
    SMALLEST_SUM,
    as_share,
    gather_tokens,
    indices_of,
    keep_top_k,
    positions,
    ranks,
    top_k_mask,
)
from saccade.policies.blocks.view_budgets import tokens_of
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

_DISTANCE_STEPS = 4096
"""Distances from tables are compared in whole steps of one part in this many, alike on every engine."""
_MOST_TABLES = 16


@dataclass(frozen=True, kw_only=True)
class QuotaConfig(PolicyConfig):
    """Options of quota.

    Args:
        form: How the budget is given out: ``levels``, a grid size for each rank; ``flat``, the best tokens by share
            times token score.
        scores: Who scores the views: the host for the ``task``, or the ``attention`` of the instruction.
        spread: Share of each rank relative to the one before in the steepest table (``levels``); 1 = all alike always.
        tables: How many tables there are from all alike to the steepest (``levels``). The ratio between ranks is
            ``spread`` in the last, its square root in the one before, the root of that before, and 1 in the first.
        resample: How a view is resampled to its size (``levels``): ``bilinear``, ``adaptive``, ``even`` or ``merge``.
        exponent: Power of the scores; 2 is the paper's, 0 gives all views the same share.
        rank_by: What ranks tokens (``flat``): attention ``received`` from all patches in the last vision block, or the
            instruction's in the first decoder layer (``text``).
        tower: Vision tower that is read (``flat`` with ``received``). None = the last one.
    """

    form: Literal["levels", "flat"] = "levels"
    scores: Literal["task", "attention"] = "task"
    spread: float = tunable(0.125, 0.05, 1)
    tables: int = 6
    resample: Literal["bilinear", "adaptive", "even", "merge"] = tunable("bilinear")
    exponent: float = tunable(2.0, 0.5, 4)
    rank_by: Literal["received", "text"] = tunable("received")
    tower: int | None = None

    def __post_init__(self) -> None:
        require(0 < self.spread <= 1, "spread", "above 0 and at most 1", self.spread)
        require(2 <= self.tables <= _MOST_TABLES, "tables", f"in 2..{_MOST_TABLES}", self.tables)
        require(0 <= self.exponent <= 16, "exponent", "in 0..16", self.exponent)


class Quota(TokenPolicy):
    """A budget over views, at the decoder's entry; the module docstring has both forms.

    In the form ``levels`` a budget buys whole grids of one size: fewer tokens than ``keep`` may survive.
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
        """Return the budget, or what equal grids that it buys have together.

        Raises:
            PolicyError: The budget does not buy one patch.
        """
        if self.config.form == "flat":
            return (keep,)
        return (level_total(keep, self._grid),)

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return the views, each resampled to the size of its rank; or the best tokens of all."""
        del carry
        seen = dict(zip(self.cuts[0].signals, inputs.signals, strict=True))
        scores = seen[self._view_signal]
        if self.config.scores == "attention":
            scores = _mean_of_patches(scores, inputs.grid)
        shares = shares_of(scores, self.config.exponent)
        if self.config.form == "levels":
            return self._levels(inputs, shares, keep)
        # A view that is worth nothing comes last, its own best tokens first.
        of_token = shares.clamp(min=_LEAST_SHARE).unsqueeze(2).expand(-1, -1, inputs.grid.per_view)
        ranked = seen[self._token_signal] * of_token.flatten(1)
        breaks = is_line_break(inputs.grid).to(ranked.device)
        return Selection(keep_top_k(torch.where(breaks, -math.inf, ranked), keep))

    def _levels(self, inputs: SelectionInputs, shares: Tensor, keep: int) -> Selection:
        """Give the view that ranks r-th the r-th size of the table that is nearest to the shares."""
        grid = inputs.grid
        steeper = [self.config.spread ** (0.5**root) for root in reversed(range(self.config.tables - 1))]
        levels = Levels(level_tables(keep, grid, (1.0, *steeper)), grid)
        is_it = (ranks(shares).unsqueeze(1) == positions(shares).unsqueeze(1)).float()  # batch, ranks, views
        table = levels.nearest((is_it * shares.unsqueeze(1)).sum(dim=2))
        slot_rank, slot_row = levels.rank.to(table.device)[table], levels.row.to(table.device)[table]
        is_view = gather_tokens(is_it, slot_rank)  # batch, keep, views
        view = (is_view * positions(shares)).sum(dim=2).long()
        local, rows = self._resampled(inputs, levels)
        is_each = local.shape[1] > levels.rows
        at = view * levels.rows + slot_row if is_each else slot_row
        found = view * grid.per_view + torch.gather(local.expand(len(at), -1), 1, at)
        # Distinct numbers: no tie for a backend to break.
        descending, order = torch.topk(-found.float(), keep)
        kept = (-descending).long()
        if rows is None:
            return Selection(kept)
        made_of = gather_tokens(rows.expand(len(at), -1, -1), at)
        mix = (is_view.unsqueeze(3) * made_of.unsqueeze(2)).flatten(2)
        return Selection(kept, gather_tokens(mix, order))

    def _resampled(self, inputs: SelectionInputs, levels: Levels) -> tuple[Tensor, Tensor | None]:
        """Resample to every size: places in the view, and what is there made of; of all views alike, or of each.

        Returns:
            Places ``(batch, rows)`` or ``(batch, views * rows)``, and over ``per_view`` tokens what they are made of.
        """
        grid, mode, device = inputs.grid, self.config.resample, inputs.embeddings.device
        if mode != "merge":
            local = torch.cat([level_positions(grid, *size) for size in levels.sizes]).to(device)
            if mode == "even":
                return local.unsqueeze(0), None
            rows = torch.cat([level_matrix(mode, grid, *size) for size in levels.sizes]).to(device)
            return local.unsqueeze(0), rows.unsqueeze(0)
        batch = len(inputs.embeddings)
        views = inputs.embeddings.reshape(batch * grid.views, grid.per_view, -1)
        merged = [_merged(views, grid, *size) for size in levels.sizes]
        places = torch.cat([place for place, _ in merged], dim=1)
        mixes = torch.cat([mix for _, mix in merged], dim=1)
        return places.reshape(batch, -1), mixes.reshape(batch, -1, grid.per_view)


class Levels:
    """Tables of grid sizes as constants of a graph: which row of which size each kept token is, table by table.

    Args:
        tables: Tables of one total, the flattest first.
        grid: How visual tokens tile the views.

    Attributes:
        sizes: Every size of any table, once; a view that is left out has none.
        rows: How many tokens one view resampled to all of ``sizes`` has.
        rank: Rank of the view that each kept token is of, int64 ``(tables, keep)``.
        row: Number of the token among ``rows``, int64 ``(tables, keep)``.
    """

    def __init__(self, tables: Sequence[Table], grid: Grid) -> None:
        self.sizes = tuple(dict.fromkeys(size for table in tables for size in table if size != (0, 0)))
        counts = [tokens_of([size], grid) for size in self.sizes]
        first = dict(zip(self.sizes, accumulate(counts, initial=0), strict=False))
        self.rows = sum(counts)
        slots = [
            [
                (rank, first[size] + slot)
                for rank, size in enumerate(table)
                for slot in range(tokens_of([size], grid))
            ]
            for table in tables
        ]
        self.rank, self.row = torch.tensor(slots).unbind(dim=2)
        self._shares = [[tokens_of([size], grid) / len(slots[0]) for size in table] for table in tables]

    def nearest(self, shares: Tensor) -> Tensor:
        """Return the table with the least distance from shares in order of rank, int64 ``(batch,)``; else the flattest.

        Args:
            shares: Each rank's share, the largest first, ``(batch, ranks)``.
        """
        of_tables = torch.tensor(self._shares, device=shares.device)
        distance = (shares.unsqueeze(1) - of_tables).abs().sum(dim=2)
        return indices_of(top_k_mask(-torch.round(distance * _DISTANCE_STEPS), 1), 1).squeeze(1)


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
