"""vflowopt: one ranking of all tokens from one vision block, nested cuts by it, and dropped tokens merged cell by cell.

Paper: "VFlowOpt" (arXiv 2508.05211, ICCV 2025); code sihany077/VFlowOpt, read at 129eeef. Training-free: its few
numbers are searched offline, once for each model and budget (``search_space`` has the box).

M tokens, A the attention of one vision block, mean over heads, rows and columns the n patches of a view:

1. *Context relevance*: ``r_j = mean_i A_ij``; core set ``K = {j : r_j > t mean(r)}``;
   ``c_i = sum_{j in K} A_ji / |K|``, the attention that core tokens give.
2. *Patch entropy*: ``H_i = - sum_b p_b log2 p_b`` over the 256 grey levels of the raw patch.
3. *Importance*: ``I_i = c_i + alpha_v softmax(H)_i``.
4. *Cut 1*, at the decoder's entry: ``R1 M`` tokens survive, the best by I and, for each cell of a x a patches, one
   merged token ``sum I_i x_i / sum I_i`` of the cell's other members, at the position of the most important one.
5. *Cuts 2 and 3*, before decoder layers l1 and l2: the best ``R1 R2 M`` and ``R1 R2 R3 M`` by the same I; a merged
   token has the importance of the member at whose position it lives.
6. *Budget*: the mean over layers, ``Rm = (R1 L1 + R1 R2 L2 + R1 R2 R3 L3) / L``. It fixes R3 when R1 and R2 are given.

Deviations and readings:

- The budget ``keep`` is ``Rm M``, so the kept set, what survives the last cut, is smaller than ``keep``. Counts are
  rounded to whole tokens, the last one such that the mean over layers comes as close to ``keep`` as it can.
- ``r1`` is R1 / Rm, which makes one setting fit several budgets; the published box of R1 at 25 % is 1..1.5 times the
  budget. R1 above 1 means 1: the first cut drops nothing.
- R1 and R2 that are not given follow the published settings, interpolated at the budget's ratio and held inside what
  the budget permits: Rm 10 %: 0.1166, 1.0; 25 %: 0.2651, 0.9833; 50 %: 0.7233, 0.7487; and 0 %: 0, 1; 100 %: 1, 1.
- t and a that are not given are the published ones at 25 % (34.76 and 15.58 on 27 x 27 patches), scaled to the grid:
  t by the number of patches, so that a core token receives the same share of all attention, a by the side. So is the
  box of the search: t up to 50 / 729 of the patches, a from 3 / 27 to 24 / 27 of the side, and at least one patch.
- Layers 9 and 18 of 28, or 10 and 20 of 32, scaled.
- Each view is ranked by its own map and all views compete in one ranking. softmax(H) is over a view.
- The core set is the token with the largest r where no token reaches the threshold; the code divides by 0 there.
- The number of merged tokens depends on data in the paper; here slots are fixed: one for each cell, at most half of
  the survivors. Cells in which everything survives give their slot to the next best token; where cells outnumber
  slots, those with the most important members get them.
- Entropy is taken of the image; the code takes it of normalised pixels, which wrap around.
- Negative importance (``alpha_v < 0``) weighs nothing in a merged token.
- Line-break tokens (``Grid.newline``) have importance 1, as published, take no part in r, c and softmax, and are never
  merged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.policies.base import (
    Carry,
    Cut,
    ModelShape,
    Place,
    Selection,
    SelectionInputs,
    TokenPolicy,
)
from saccade.policies.blocks.budgets import scaled_layers
from saccade.policies.blocks.layer_mean_budget import LayerSpans, counts_for, resolved_ratios
from saccade.policies.blocks.line_breaks import is_line_break
from saccade.policies.blocks.patches import patch_entropy
from saccade.policies.blocks.recycling import cells_of, keep_and_recycle
from saccade.policies.blocks.selection import keep_top_k, top_k_mask
from saccade.policies.config import PolicyConfig, require, tunable
from saccade.policies.signals import Pixels, Signal, VisionMap

IMPORTANCE = "importance"
_T, _CELL, _PATCHES, _SIDE = 34.76, 15.58, 729, 27
"""Settings published at 25 %: threshold of core tokens, side of a cell, and the patches of a view and of a row that
they were published for."""
_BLOCK = 25


@dataclass(frozen=True, kw_only=True)
class VFlowOptConfig(PolicyConfig):
    """Options of vflowopt.

    Args:
        t: How many times the mean attention a core token receives, at least. None = 34.76, scaled to the grid.
        cell: Side a of the cells in which dropped tokens are merged, in patches, fractions allowed; 0 = no merging.
            None = 15.58, scaled to the grid.
        r1: Share that survives the first cut, as a multiple of the budget, at least 1. None = as published, see the
            module's docstring.
        r2: Share of the first cut's survivors that survive the second. None = as published.
        taper: Given instead of r2, from 0 to 1: where R2 lies between the least (the third cut drops nothing) and the
            most that R1 and the budget permit. What is searched: most pairs of R1 and R2 meet no budget, every pair of
            R1 and taper does.
        alpha_v: Weight of patch entropy; 0 in every published setting.
        block: Vision block whose attention is read. None = 25, or the last one that runs.
        tower: Vision tower of that block. None = the last one.
        layers: Decoder layers before which the second and the third cut lie. None = 10 and 20 of 32, scaled.
    """

    t: float | None = tunable(None, 0, 50 / _PATCHES, of="patches")
    cell: float | None = tunable(None, 3 / _SIDE, 24 / _SIDE, of="side", least=1.0)
    r1: float | None = tunable(None, 1, 1.5)
    r2: float | None = None
    taper: float | None = tunable(None, 0, 1)
    alpha_v: float = tunable(0.0, -1, 1)
    block: int | None = None
    tower: int | None = None
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        t, cell, r1, r2 = self.t, self.cell, self.r1, self.r2
        require(t is None or 0 <= t < math.inf, "t", "0 or more", t)
        require(
            cell is None or cell == 0 or 1 <= cell < math.inf, "cell", "0 (no merging) or at least 1", cell
        )
        require(r1 is None or 1 <= r1 < math.inf, "r1", "at least 1 (times the budget)", r1)
        require(r2 is None or 0 < r2 <= 1, "r2", "above 0 and at most 1", r2)
        require(self.taper is None or 0 <= self.taper <= 1, "taper", "from 0 to 1", self.taper)
        require(self.taper is None or r2 is None, "taper", "null where r2 is given", self.taper)
        require(math.isfinite(self.alpha_v), "alpha_v", "a number", self.alpha_v)


class VFlowOpt(TokenPolicy):
    """Nested cuts by one importance map; the module docstring has the method.

    The budget is the mean over decoder layers.
    """

    name: ClassVar[str] = "vflowopt"
    options = VFlowOptConfig

    def __init__(self, config: VFlowOptConfig, shape: ModelShape) -> None:
        self.config: VFlowOptConfig = _resolved(config, shape)
        block, tower, layers = self.config.block, self.config.tower, self.config.layers
        assert block is not None and tower is not None and layers is not None  # noqa: S101 - resolved
        signals: tuple[Signal, ...] = (VisionMap(block, tower),)
        if config.alpha_v != 0:
            signals += (Pixels(),)
        self.cuts = (
            Cut(Place.DECODER, 0, signals),
            *(Cut(Place.DECODER, layer) for layer in layers),
        )
        self.merges = self.config.cell != 0
        self._tokens = shape.grid.tokens
        self._spans = LayerSpans(layers[0], layers[1] - layers[0], shape.layers - layers[1])
        self._cells = cells_of(shape.grid, self.config.cell) if self.config.cell else ()

    def schedule(self, keep: int) -> tuple[int, ...]:
        """Return how many tokens survive each cut, for a mean of ``keep`` over the decoder's layers.

        Raises:
            PolicyError: R1 and R2 leave no R3 that meets the budget.
        """
        config = self.config
        ratios = resolved_ratios(keep / self._tokens, self._spans, config.r1, config.r2, config.taper)
        return counts_for(self._tokens, keep, self._spans, *ratios)

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return the ``keep`` most important tokens; at the first cut some of them merged."""
        del carry
        if inputs.cut > 0:
            importance = inputs.memo[IMPORTANCE]
            return Selection(keep_top_k(importance, keep), memo={IMPORTANCE: importance})
        importance = self._importance(inputs)
        if not self.merges:
            return Selection(keep_top_k(importance, keep), memo={IMPORTANCE: importance})
        reserved = min(max(self._cells) + 1, keep // 2)
        kept, mix = keep_and_recycle(importance, self._cells, keep, reserved)
        return Selection(kept, mix, {IMPORTANCE: importance})

    def _importance(self, inputs: SelectionInputs) -> Tensor:
        """Return I, ``(batch, tokens)``."""
        attention, *pixels = inputs.signals
        batch, grid = inputs.embeddings.shape[0], inputs.grid
        breaks = is_line_break(grid.view).to(attention.device)
        importance = context_relevance(attention, ~breaks, self.config.t or 0.0).reshape(batch, -1)
        if pixels:
            entropy = patch_entropy(pixels[0]).reshape(batch * grid.views, -1)
            share = torch.where(breaks, -math.inf, entropy).softmax(dim=-1)
            importance = importance + self.config.alpha_v * share.reshape(batch, -1)
        return torch.where(breaks.repeat(grid.views), 1.0, importance)


def context_relevance(
    attention: Float[Tensor, "maps heads tokens tokens"], patches: Bool[Tensor, " tokens"], t: float
) -> Float[Tensor, "maps tokens"]:
    """Return c, the mean attention that the core tokens of each map give to each token.

    Args:
        attention: Softmax weights of each map; what is not finite counts as 0.
        patches: Rows and columns that are patches; at least one.
        t: How many times the mean attention a core token receives, at least.
    """
    mean = torch.where(attention.abs() < math.inf, attention, 0.0).mean(dim=1)
    rows = patches.float() / patches.float().sum()
    received = rows @ mean
    core = (received > t * (received @ rows).unsqueeze(1)) & patches
    first = top_k_mask(torch.where(patches, received, -math.inf), 1)
    is_empty = core.float().amax(dim=1, keepdim=True) < 0.5
    weights = (core | (first & is_empty)).float()
    weights = weights / weights.sum(dim=1, keepdim=True)
    return (weights.unsqueeze(1) @ mean).squeeze(1)


def _resolved(config: VFlowOptConfig, shape: ModelShape) -> VFlowOptConfig:
    """Fill in what follows from the model; r1 and r2 follow from the budget."""
    units = shape.grid.units
    towers = len(shape.towers)
    tower = towers - 1 if config.tower is None else config.tower
    require(0 <= tower < towers, "tower", f"in 0..{towers - 1} for a model of {towers} vision towers", tower)
    blocks = shape.towers[tower].blocks
    block = min(_BLOCK, blocks - 1) if config.block is None else config.block
    require(0 <= block < blocks, "block", f"in 0..{blocks - 1} for tower {tower}", block)
    layers = scaled_layers((10, 20), shape.layers) if config.layers is None else config.layers
    require(
        len(layers) == 2 and 1 <= layers[0] < layers[1] < shape.layers,
        "layers",
        f"two rising numbers in 1..{shape.layers - 1} for {shape.layers} decoder layers",
        list(layers),
    )
    return replace(
        config,
        t=_T * units["patches"] / _PATCHES if config.t is None else config.t,
        cell=max(1.0, _CELL * units["side"] / _SIDE) if config.cell is None else config.cell,
        block=block,
        tower=tower,
        layers=layers,
    )
