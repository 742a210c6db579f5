"""adp: rank by what the instruction looks for, give each camera its share, and keep everything while the arm is slow.

Paper: "Action-aware Dynamic Pruning" (ADP, 2509.22093, ICLR 2026); code TerryPei/VLA-ADP, read at 9a86145, and the
selection of its first tree, chen7086/VLA-ADP at 8b8c05a.

One cut at the decoder's entry. The score of visual token m is the mean over heads and over the T valid rows of the
instruction of the first layer's scaled logits, without rotary positions and without softmax::

    s_m = mean_h mean_t  q_th . k_mh / sqrt(head_dim)

Each view keeps the best of its own tokens; a budget is shared by views in proportion to ``view_weights``. Whether
tokens are dropped at all in a control step is for the host to decide, from the motion of the end effector:
:class:`~saccade.policies.base.MotionGate` has the rule.

Deviations, and what is our reading:

- The paper's shares are 0.4 for the scene camera and 0.6 for the wrist camera; they go by order, scene first. As in the
  code, further cameras divide the wrist's 0.6 evenly. What a small view cannot hold goes to the others.
- A share is rounded by largest remainder and may be 0; the code rounds each for itself, at least to 1, and settles the
  difference at the largest share.
- The rows of the instruction are its text tokens; the code also reads the first and the stop token.
- The gate's two numbers are those of the released settings, and so is what it reads (net displacement, compared with
  the extremes of adjacent windows); its code is not public. What exactly is compared with what is our reading. The
  settings' initial state, 0, is read as slow: without history, keep everything.
- The public code handles batch 1 and one key head for each query head only; this has neither limit.
- The public tree holds a variant that drops keys and values alone, at later layers and by rotated logits; it is not
  here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from saccade.policies.base import (
    Carry,
    ModelShape,
    MotionGate,
    Selection,
    SelectionInputs,
    TokenPolicy,
    decoder_cut,
)
from saccade.policies.blocks.budgets import choose_per_view, split_by_weight
from saccade.policies.blocks.selection import keep_top_k
from saccade.policies.config import PolicyConfig, require
from saccade.policies.signals import AttentionAhead, QueryRows

SCENE_AND_WRIST = (0.4, 0.6)
"""Published shares of two views in the budget: scene and wrist."""


@dataclass(frozen=True, kw_only=True)
class AdpConfig(PolicyConfig):
    """Options of adp; the defaults are the paper's.

    Args:
        view_weights: Share of each view in the budget, up to a common factor. None = 0.4 for the first view and 0.6
            for all others together, evenly.
        gated: Whether every token runs while the arm is slow. False = whatever the arm does.
        window: How many action chunks a displacement is added up over.
        look_back: How many earlier windows the latest one is compared with.
    """

    view_weights: tuple[float, ...] | None = None
    gated: bool = True
    window: int = 3
    look_back: int = 2

    def __post_init__(self) -> None:
        if self.view_weights is not None:
            good = all(0.0 <= weight < math.inf for weight in self.view_weights) and any(self.view_weights)
            require(good, "view_weights", "numbers of 0 or more, one of them above 0", self.view_weights)
        require(1 <= self.window <= 64, "window", "in 1..64", self.window)
        require(1 <= self.look_back <= 64, "look_back", "in 1..64", self.look_back)


class Adp(TokenPolicy):
    """Text-driven top-k of each view at the decoder's entry, behind a motion gate."""

    name: ClassVar[str] = "adp"
    options = AdpConfig

    def __init__(self, config: AdpConfig, shape: ModelShape) -> None:
        views = shape.grid.views
        weights = published_weights(views) if config.view_weights is None else config.view_weights
        require(len(weights) == views, "view_weights", f"one number for each of {views} views", weights)
        self.config: AdpConfig = replace(config, view_weights=weights)
        self.cuts = decoder_cut(0, AttentionAhead(QueryRows.TEXT, rotary=False, softmax=False))
        self.gate = MotionGate(config.window, config.look_back) if config.gated else None
        self._weights = weights

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return the best tokens of each view, as many as its share of ``keep``."""
        del carry
        shares = split_by_weight(keep, self._weights, inputs.grid.per_view)
        return Selection(choose_per_view(_best, inputs.signals, inputs.grid, keep, shares))


def published_weights(views: int) -> tuple[float, ...]:
    """Return the published share of each view: one view has all, others than the first divide the wrist's evenly."""
    if views == 1:
        return (1.0,)
    scene, wrist = SCENE_AND_WRIST
    return (scene, *(wrist / (views - 1),) * (views - 1))


def _best(scores: Sequence[Tensor], keep: int) -> Tensor:
    (relevance,) = scores
    return keep_top_k(relevance, keep)
