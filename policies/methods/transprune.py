"""transprune: keep tokens that the layers change most and that the instruction is about to look at; three cuts.

Paper: "TransPrune" (2507.20630, CVPR 2026); code liaolea/TransPrune, read at c9e8284.

At a cut in front of decoder layer K, with u what a sub-layer F (attention, or the MLP) reads after its norm and
y = F(u) what it adds to the residual::

    TTV_F(m) = exp(1 - cos(u_m, y_m)) / sum_n exp(1 - cos(u_n, y_n)) * |y_m| / |u_m|      n: every token, text too
    TTV(m)   = sum of TTV_attention + TTV_mlp over the layers from the first that counts up to K - 1
    IGA(m)   = mean over heads and instruction rows of the attention that layer K would pay to m
    score(m) = alpha * TTV(m) / sum_V TTV + (1 - alpha) * IGA(m) / sum_V IGA              V: visual tokens alive

The paper cuts after the layers 7, 9 and 12 of 32, counted from 1: what is in front of the layers with index 7, 9 and
12. TTV counts from layer 7 on, which is index 6, the last layer in front of the first cut. 0.875, 0.625 and 0.125 of
all visual tokens survive.

Deviations:

- Survivors keep their original positions; the code renumbers them from 0 after each cut and shifts later ones.
- TTV follows the code, confirmed there. The paper has 1 - abs(cos) in the exponent.
- The code adds the two shares without weights, which ranks like alpha = 0.5.
- A budget replaces the last of the three shares: earlier cuts drop their published part of what is dropped in all,
  1/7 and 3/7.
- Other depths: layers are scaled; a decoder too shallow for three cuts makes the last ones alone.
- The code is for batch 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

from saccade.policies.base import (
    Carry,
    Cut,
    ModelShape,
    Place,
    Selection,
    SelectionInputs,
    TokenPolicy,
)
from saccade.policies.blocks.budgets import nested_counts, scaled_layers
from saccade.policies.blocks.selection import as_share, keep_top_k
from saccade.policies.config import PolicyConfig, require
from saccade.policies.signals import AttentionAhead, QueryRows, Transition

CUT_LAYERS = (7, 9, 12)
"""Published cuts: the first decoder layer of 32 that sees only what each cut left."""
KEPT = (0.875, 0.625, 0.125)
"""Published share of all visual tokens behind each cut."""
TRANSITION = "transition"
"""Name of the note that goes with each token: its token transition variation, summed up to here."""


@dataclass(frozen=True, kw_only=True)
class TransPruneConfig(PolicyConfig):
    """Options of transprune; the defaults are the paper's.

    Args:
        cut_layers: First decoder layer behind each cut. None = 7, 9 and 12 of 32, scaled; the last ones if the
            decoder has no room for three.
        kept: Share of all visual tokens behind each cut, falling. Only their distances count: the budget says what
            the last cut leaves. None = 0.875, 0.625 and 0.125, the last ones if there are fewer cuts.
        alpha: Weight of the transition score against the attention of the instruction, in 0..1.
    """

    cut_layers: tuple[int, ...] | None = None
    kept: tuple[float, ...] | None = None
    alpha: float = 0.5

    def __post_init__(self) -> None:
        require(0.0 <= self.alpha <= 1.0, "alpha", "in 0..1", self.alpha)


class TransPrune(TokenPolicy):
    """Token transition and attention ahead, at several cuts."""

    name: ClassVar[str] = "transprune"
    options = TransPruneConfig

    def __init__(self, config: TransPruneConfig, shape: ModelShape) -> None:
        layers = config.cut_layers
        if layers is None:
            layers = scaled_layers(CUT_LAYERS[-max(1, shape.layers - 1) :], shape.layers)
        _check_layers(layers, shape.layers)
        kept = KEPT[-len(layers) :] if config.kept is None else config.kept
        _check_kept(kept, len(layers))
        self.config: TransPruneConfig = replace(config, cut_layers=layers, kept=kept)
        edges = (layers[0] - 1, *layers)
        self.cuts = tuple(
            Cut(Place.DECODER, end, (Transition(tuple(range(start, end))), AttentionAhead(QueryRows.TEXT)))
            for start, end in zip(edges, layers, strict=False)
        )
        self._tokens = shape.grid.tokens
        self._dropped = tuple((1.0 - share) / (1.0 - kept[-1]) for share in kept)

    def schedule(self, keep: int) -> tuple[int, ...]:
        """Return the survivors of each cut, the last of which leaves ``keep``."""
        return nested_counts(self._tokens, keep, self._dropped)

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return the ``keep`` tokens of the highest score, and what their transitions add up to so far."""
        del carry
        moved, attended = inputs.signals
        if TRANSITION in inputs.memo:
            moved = inputs.memo[TRANSITION] + moved
        score = self.config.alpha * as_share(moved) + (1.0 - self.config.alpha) * as_share(attended)
        return Selection(keep_top_k(score, keep), memo={TRANSITION: moved})


def _check_layers(cut_layers: Sequence[int], layers: int) -> None:
    good = bool(cut_layers) and list(cut_layers) == sorted(set(cut_layers))
    good = good and cut_layers[0] >= 1 and cut_layers[-1] < layers
    expected = f"one or more rising numbers in 1..{layers - 1} for a decoder of {layers} layers"
    require(good, "cut_layers", expected, cut_layers)


def _check_kept(kept: Sequence[float], cuts: int) -> None:
    falling = len(kept) == cuts and all(later < earlier for earlier, later in pairwise(kept))
    good = falling and kept[-1] >= 0.0 and kept[0] < 1.0
    require(good, "kept", f"falling shares below 1, one for each of {cuts} cuts", kept)
