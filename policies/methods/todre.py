"""todre: keep tokens that resemble each other least, from a pivot that the vision tower looks at; then, late, drop all.

Paper: "ToDRE" (arXiv 2505.18757); no public code was found, the formulas are the paper's. Training-free, task blind.

*Stage 1*, at the decoder's entry, x_j its input embeddings, k the budget:

1. Pivot: ``p = argmax_j a_j``, a the class token's attention in the last block of the vision tower, mean over heads.
2. ``form="max_sum"`` (v2): ``S = {p}``, then ``argmin_{j not in S} sum_{s in S} cos(x_j, x_s)`` until |S| = k.
   ``form="k_centre"`` (v1): then ``argmax_{j not in S} min_{s in S} (1 - cos(x_j, x_s))``.
3. Survivors stay in their order and at their positions.

*Stage 2*, before decoder layer 7L/8: no visual token goes on, if attention says that text and vision no longer
exchange anything. With A the mean over heads of that layer's attention, T text rows and V visual ones:

    alpha_tv = sum_{T, V} A / sum_{T, all} A        alpha_vt = sum_{V, T} A / sum_{V, all} A        both < 0.10

Deviations and readings:

- A tower without a class token: the pivot is the patch that received most attention from all patches (the paper
  draws it at random and reports 0.2 to 0.3 % of difference). ``pivot="first"`` is the first patch.
- Several views: attention is normalised in each view, so that the largest value of all views is the paper's rule for
  video (best of each video frame, then best of all). ``budget="per_view"`` runs stage 1 in each view with its share of
  k. There is no thumbnail here that AnyRes' pivot could be confined to.
- Line-break tokens (``Grid.newline``) are no candidates. They survive only where the budget exceeds the patches.
- Distances are rounded so that ties fall the same way everywhere, see :mod:`saccade.policies.blocks.diversity`; v1's
  rule is reconstructed as the usual greedy for k centres.
- Stage 2 is a branch in the paper, taken sample by sample. Here it is decided when the graph is built: ``"on"``,
  ``"off"``, or ``"auto"``, which is on if both shares lie below the threshold in at least 99 % of the calibration
  frames. Both shares are then those of the unpruned model, with every visual token in that layer; the paper measures
  behind stage 1, where fewer tokens share the same attention. It is off by default: action rows may read vision late,
  where text rows no longer do, so for ``"auto"`` the larger share of text rows and action rows counts as alpha_tv.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from saccade.policies.base import (
    Carry,
    Cut,
    Grid,
    ModelShape,
    Place,
    Selection,
    SelectionInputs,
    TokenPolicy,
    decoder_cut,
)
from saccade.policies.blocks.budgets import choose_per_view
from saccade.policies.blocks.diversity import farthest_first, max_sum_diversity
from saccade.policies.blocks.line_breaks import line_break_indices, patch_indices
from saccade.policies.blocks.selection import ascending
from saccade.policies.blocks.towers import choose_tower
from saccade.policies.config import PolicyConfig, require, tunable
from saccade.policies.measurements import Measurements
from saccade.policies.signals import Signal, VisionAttention, VisionRows
from saccade.proto.errors import PolicyError

THRESHOLD, SHARE = 0.10, 0.99
"""Limits of stage 2: share of attention below which nothing is exchanged, and share of the samples in which that must
be so."""


@dataclass(frozen=True, kw_only=True)
class ToDreConfig(PolicyConfig):
    """Options of todre.

    Args:
        form: How the next pick is found: ``max_sum``, the smallest summed cosine to the picks so far (v2);
            ``k_centre``, the farthest from its nearest pick (v1).
        pivot: Which token is picked first: what the vision tower attends to most (``attention``), or the ``first``
            patch.
        tower: Vision tower whose attention finds the pivot. None = the first with a class token, else the last.
        budget: One budget over all views (``joint``) or an even share for each (``per_view``).
        stage2: Whether every visual token is dropped before ``stage2_layer``: ``off``, ``on``, or ``auto``, which the
            calibration frames decide.
        stage2_layer: Decoder layer before which stage 2 drops every visual token. None = 7/8 of the layers.
    """

    form: Literal["max_sum", "k_centre"] = tunable("max_sum")
    pivot: Literal["attention", "first"] = "attention"
    tower: int | None = None
    budget: Literal["joint", "per_view"] = tunable("joint")
    stage2: Literal["off", "on", "auto"] = "off"
    stage2_layer: int | None = None


class ToDre(TokenPolicy):
    """Diversity at the entry, and all visual tokens dropped late; the module docstring has the method.

    The budget is what stage 1 leaves; with stage 2 the last count is 0.
    """

    name: ClassVar[str] = "todre"
    options = ToDreConfig

    def __init__(self, config: ToDreConfig, shape: ModelShape) -> None:
        tower, layer = choose_tower(config.tower, shape), _stage2_layer(config, shape)
        self.config: ToDreConfig = replace(config, tower=tower, stage2_layer=layer)
        last = shape.towers[tower].blocks - 1
        rows = VisionRows.CLASS if shape.towers[tower].has_class_token else VisionRows.PATCHES
        attention: tuple[Signal, ...] = (VisionAttention(rows, (last,), tower),)
        self.cuts = decoder_cut(0, *(attention if config.pivot == "attention" else ()))
        if config.stage2 == "on":
            self.cuts += (Cut(Place.DECODER, layer),)
        self.needs_calibration = config.stage2 == "auto"

    def schedule(self, keep: int) -> tuple[int, ...]:
        """Return the budget behind stage 1, and 0 behind stage 2."""
        return (keep, 0)[: len(self.cuts)]

    def calibrate(self, measured: Measurements) -> Mapping[str, object]:
        """Decide ``stage2="auto"``."""
        layer = self.config.stage2_layer
        if self.config.stage2 != "auto" or layer is None:
            return {}
        to_visual = [
            max(text[layer], action[layer])
            for text, action in zip(measured.text_to_visual, measured.action_to_visual, strict=True)
        ]
        safe = stage2_is_safe(to_visual, [row[layer] for row in measured.visual_to_text])
        return {"stage2": "on" if safe else "off"}

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return ``keep`` tokens, each unlike the others."""
        del carry
        per_view, grid = self.config.budget == "per_view", inputs.grid
        choose = partial(_most_spread, self.config.form, grid.view if per_view else grid)
        tensors = (inputs.embeddings, *inputs.signals)
        if per_view:
            return Selection(choose_per_view(choose, tensors, grid, keep))
        return Selection(choose(tensors, keep))


def stage2_is_safe(
    text_to_visual: Sequence[float],
    visual_to_text: Sequence[float],
    threshold: float = THRESHOLD,
    share: float = SHARE,
) -> bool:
    """Say whether text and vision exchange nothing any more in the layer where stage 2 would cut.

    Args:
        text_to_visual: Share of the text rows' attention that goes to visual tokens, in each calibration sample.
        visual_to_text: Share of the visual rows' attention that goes to text tokens, in each calibration sample.
        threshold: Attention below which nothing is exchanged; both must lie below it. NaN does not.
        share: Share of the samples in which both must lie below the threshold.

    Raises:
        PolicyError: There is no sample, or one of the two has more than the other.
    """
    if not text_to_visual or len(text_to_visual) != len(visual_to_text):
        raise PolicyError(
            "stage 2 of todre: expected both shares of attention for each calibration sample, found "
            f"{len(text_to_visual)} and {len(visual_to_text)} numbers; record some frames."
        )
    pairs = zip(text_to_visual, visual_to_text, strict=True)
    below = sum(tv < threshold and vt < threshold for tv, vt in pairs)
    return below / len(text_to_visual) >= share


def _most_spread(form: str, grid: Grid, tensors: Sequence[Tensor], keep: int) -> Tensor:
    """Run stage 1 over one grid.

    Args:
        form: How the next pick is found, as in the options.
        grid: How the tokens of ``tensors`` tile the views.
        tensors: Embeddings ``(batch, tokens, dim)``; attention ``(batch, tokens)``, unless the first patch is the
            pivot.
        keep: How many tokens survive.

    Returns:
        int64 ``(batch, keep)``, ascending.
    """
    patches = patch_indices(grid).to(tensors[0].device)
    embeddings = tensors[0][:, patches] if grid.newline else tensors[0]
    few = min(keep, patches.shape[0])
    pivot = torch.zeros_like(embeddings[:, :1, 0]).long()
    if len(tensors) > 1:
        attention = tensors[1][:, patches] if grid.newline else tensors[1]
        usable = ~(torch.isnan(attention) | torch.isnan(embeddings.float().sum(dim=-1)))
        pivot = torch.where(usable, attention, -math.inf).argmax(dim=-1, keepdim=True)
    picks = FORMS[form](embeddings, pivot, few)
    if not grid.newline:
        return ascending(picks)
    breaks = line_break_indices(grid).to(patches.device)[: keep - few]
    return ascending(torch.cat([patches[picks], breaks.expand(picks.shape[0], -1)], dim=1))


FORMS = {"max_sum": max_sum_diversity, "k_centre": farthest_first}


def _stage2_layer(config: ToDreConfig, shape: ModelShape) -> int:
    """Return the decoder layer before which stage 2 cuts."""
    layer = max(1, 7 * shape.layers // 8) if config.stage2_layer is None else config.stage2_layer
    if config.stage2 != "off" or config.stage2_layer is not None:
        last = shape.layers - 1
        require(1 <= layer <= last, "stage2_layer", f"in 1..{last} for {shape.layers} decoder layers", layer)
    return layer
