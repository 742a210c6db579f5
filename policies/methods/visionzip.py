"""visionzip: keep the patches that the vision tower looks at, and merge the others into a few contextual tokens.

Paper: "VisionZip" (2412.04467, CVPR 2025); code dvlab-research/VisionZip, read at 3151f6d. Blind to the task.

Between tower and projector, for each image, from the block whose output is read:

1. *Dominant* tokens: the d patches with most attention from the class token (from all patches where there is none).
2. *Targets*: of the n others, in raster order, every ``floor(n / c)``-th one, c in all.
3. Each token that is neither joins the target whose key vector is most similar to its own (cosine; keys are
   averaged over heads, as the code has it).
4. *Contextual* tokens: target plus the mean of those that joined it, ``x_t + mean(x_j)``; d + c survive.

Deviations and readings:

- c is 10 of 64 of the survivors, rounded, in every budget; the published settings scale so (54 + 10 of 64, 108 + 20 of
  128). One of the 54 is the class token itself, which is no visual token here: a patch takes its place.
- The paper's sum is about twice as long as a token. ``norm="mean"`` halves it, same direction, for projectors and
  decoders that mind; a target that nobody joined stays as it is in both.
- Survivors stay in raster order, a contextual token at its target's place; the code appends them.
- Attention is normalised over patches alone; similarities are rounded so that ties go to the first target everywhere,
  see :mod:`saccade.policies.blocks.diversity`. A token whose key is not finite joins nobody and is joined by nobody.
- The paper handles each image alone: ``budget="per_view"``. ``joint`` treats all views as one image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    projector_cut,
)
from saccade.policies.blocks.budgets import choose_per_view, split_evenly
from saccade.policies.blocks.diversity import DISTANCE_STEPS, unit_vectors
from saccade.policies.blocks.merging import NOWHERE, each_alone, nearest_slots, weighted_means
from saccade.policies.blocks.selection import gather_tokens, indices_of, keep_top_k
from saccade.policies.blocks.towers import choose_rows, choose_tower
from saccade.policies.config import PolicyConfig, require, tunable
from saccade.policies.signals import VisionAttention, VisionKeys, VisionRows


@dataclass(frozen=True, kw_only=True)
class VisionZipConfig(PolicyConfig):
    """Options of visionzip.

    Args:
        contextual: Share of the survivors that are contextual tokens (the paper: 10 of 64); 0 = dominant tokens alone.
        norm: How a contextual token is made: its target plus its members' mean (``sum``, the paper), or half of that
            (``mean``).
        budget: Whether each view has an even share of the budget (``per_view``), or all views are one image
            (``joint``).
        tower: The vision tower that is read. None = the first with a class token, else the last.
        rows: Whose attention counts: the ``class`` token's, or that of all ``patches``. None = ``class`` if it exists.
    """

    contextual: float = tunable(10 / 64, 0, 0.5)
    norm: Literal["sum", "mean"] = tunable("sum")
    budget: Literal["per_view", "joint"] = tunable("per_view")
    tower: int | None = None
    rows: Literal["class", "patches"] | None = None

    def __post_init__(self) -> None:
        require(0.0 <= self.contextual < 1.0, "contextual", "at least 0 and below 1", self.contextual)


class VisionZip(TokenPolicy):
    """Dominant and contextual tokens of VisionZip; the module docstring has the method and the deviations."""

    name: ClassVar[str] = "visionzip"
    options = VisionZipConfig

    def __init__(self, config: VisionZipConfig, shape: ModelShape) -> None:
        tower = choose_tower(config.tower, shape)
        rows = choose_rows(config.rows, tower, shape)
        self.config: VisionZipConfig = replace(config, tower=tower, rows=rows)
        block = shape.towers[tower].blocks - 1
        attention = VisionAttention(VisionRows(rows), (block,), tower)
        self.merges = config.contextual > 0
        self.cuts = projector_cut(
            attention, *([VisionKeys(block, tower, mean_of_heads=True)] if self.merges else [])
        )

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return dominant tokens and targets, and what the targets take up."""
        del carry
        attention = inputs.signals[0]
        grid = inputs.grid if self.config.budget == "per_view" else Grid(1, 1, inputs.alive)
        shares = split_evenly(keep, grid.views)
        contextual = [min(round(self.config.contextual * share), max(share - 1, 0)) for share in shares]
        dominant = [share - own for share, own in zip(shares, contextual, strict=True)]
        chosen = choose_per_view(_most_attended, [attention], grid, sum(dominant), dominant)
        if not any(contextual):
            return Selection(chosen)
        is_dominant = torch.zeros_like(attention).scatter(1, chosen, 1.0) > 0
        is_target = every_nth(~is_dominant, contextual)
        kept = indices_of(is_dominant | is_target, keep)
        into = self._joins(inputs.signals[1], is_target, kept, grid)
        survives = is_dominant | is_target
        members = weighted_means(torch.where(survives, NOWHERE, into), torch.ones_like(attention), kept)
        # Where somebody joined, the two have no token in common; else both are the survivor alone.
        alone = each_alone(kept, inputs.alive)
        paper = self.config.norm == "sum"
        return Selection(kept, torch.maximum(alone, members) if paper else 0.5 * (alone + members))

    @staticmethod
    def _joins(keys: Tensor, is_target: Tensor, kept: Tensor, grid: Grid) -> Tensor:
        """Return for each token the slot of the target of its view that is most similar, int64 ``(batch, alive)``."""
        unit = unit_vectors(keys)
        broken = torch.isnan(unit.sum(dim=-1))
        unit = torch.where(broken.unsqueeze(-1), 0.0, unit)
        similar = torch.round(DISTANCE_STEPS * (unit @ gather_tokens(unit, kept).transpose(1, 2)))
        view = (torch.arange(broken.shape[1], device=kept.device) // grid.per_view).expand_as(broken)
        same_view = view.unsqueeze(2) == torch.gather(view, 1, kept).unsqueeze(1)
        takes = torch.gather((is_target & ~broken).float(), 1, kept).unsqueeze(1) > 0
        return nearest_slots(torch.where(same_view & takes & ~broken.unsqueeze(2), similar, -math.inf))


def every_nth(remaining: Tensor, counts: Sequence[int]) -> Tensor:
    """Mark, view by view, ``counts`` of the tokens that remain: every ``floor(remaining / count)``-th, from the first.

    Args:
        remaining: Tokens to mark, bool ``(batch, tokens)``; each robot has equally many in a view, at least that view's
            count.
        counts: How many tokens of each view are marked.

    Returns:
        bool ``(batch, tokens)``.
    """
    batch, views = remaining.shape[0], len(counts)
    by_view = remaining.reshape(batch, views, -1).float()
    place = by_view.cumsum(dim=2) - 1.0
    wanted = torch.tensor(counts, dtype=torch.float32, device=remaining.device).reshape(1, views, 1)
    step = torch.floor(by_view.sum(dim=2, keepdim=True) / wanted.clamp(min=1.0)).clamp(min=1.0)
    marked = (by_view > 0) & (place == step * torch.floor(place / step)) & (place < step * wanted)
    return marked.reshape(batch, -1)


def _most_attended(tensors: Sequence[Tensor], keep: int) -> Tensor:
    """Return the ascending top-k of attention ``(batch, tokens)``."""
    return keep_top_k(tensors[0], keep)
