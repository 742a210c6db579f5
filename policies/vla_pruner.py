"""vla_pruner: keep what the instruction attends to *and* what recent actions attended to, without duplicates.

Paper: "VLA-Pruner" (arXiv 2511.16449); code MINT-SJTU/VLA-Pruner, read at fa5bfed. Training-free.

One drop of visual tokens in front of decoder layer K, in four moves (M visual tokens, k survive):

1. *Semantic score*: attention that each token receives in layer K-1 of this frame.
2. *Action score*: attention that each token received from the action queries over the latter half of the layers,
   smoothed over the last w frames: ``sum_{i=1..w} g^i row(t-i) / sum g^i``.
3. *Relevance*: the union C of the two top-k sets, so k <= |C| <= 2k.
4. *Redundancy*: max-min diversity on the decoder's input embeddings thins C to exactly k. Order and positions of
   the survivors stay the original ones.

Deviations from the paper, and from its code:

- The decay is newest-heaviest as in the paper; the code at fa5bfed has it reversed.
- Semantic rows default to the *text* rows. The paper averages all rows, the code takes the last one; neither suits
  a bidirectional decoder. ``rows`` selects.
- A pruned token has no action attention. Paper and code record 0, so a dropped token can return only through the
  semantic score and the choice reinforces itself. By default (``absent="presence"``) an absent token keeps its
  smoothed estimate instead; ``absent="zero"`` is the paper.
- Each frame's row is normalised over visual tokens before it enters the history, so that pruned frames, which
  spread the softmax over fewer tokens, do not outweigh full ones.
- ``budget="per_view"`` gives every camera its share of k; the paper selects jointly.
- The redundancy filter compares rounded distances, see :mod:`saccade.policies.selection`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from saccade.policies.base import (
    AttentionReceived,
    Carry,
    CarrySpec,
    DecoderShape,
    Grid,
    QueryRows,
    SelectionInputs,
    UpdateInputs,
)
from saccade.policies.config import PolicyConfig, require, resolve_insertion_layer
from saccade.policies.selection import (
    ascending,
    check_keep,
    choose_per_view,
    every_token,
    max_min_diversity,
    top_k_mask,
)
from saccade.policies.smoothing import push, smoothed, visual_distribution

HISTORY = "carry.action_history"


@dataclass(frozen=True, kw_only=True)
class VlaPrunerConfig(PolicyConfig):
    """Options of vla_pruner; the defaults are the paper's where it states them.

    Args:
        insertion_layer: K, the first decoder layer that sees only the kept tokens. None = 3 for 32 layers, scaled
            to shallower decoders and at least 1.
        rows: Query rows of the semantic score: ``text`` (instruction tokens), ``last`` (one row, for causal
            decoders), ``all`` (the paper).
        window: w, frames in the history; also the number of full control steps after a reset.
        decay: Gamma in (0, 1]: a frame one step older weighs this much less.
        absent: What the history records for a pruned token: its smoothed estimate (``presence``) or 0 (``zero``).
        budget: One budget over all views (``joint``) or an even share for each (``per_view``).
        refresh_every: Every n-th control step runs with every token, so that no estimate grows stale; 0 = never.
    """

    insertion_layer: int | None = None
    rows: Literal["text", "last", "all"] = "text"
    window: int = 3
    decay: float = 0.8
    absent: Literal["presence", "zero"] = "presence"
    budget: Literal["joint", "per_view"] = "joint"
    refresh_every: int = 0

    def __post_init__(self) -> None:
        require(1 <= self.window <= 64, "window", "in 1..64", self.window)
        require(0.0 < self.decay <= 1.0, "decay", "above 0 and at most 1", self.decay)
        require(self.refresh_every >= 0, "refresh_every", "0 (never) or more", self.refresh_every)


class VlaPruner:
    """Dual-level token pruning of VLA-Pruner; the module docstring has the method and the deviations."""

    name: ClassVar[str] = "vla_pruner"

    def __init__(self, config: VlaPrunerConfig, shape: DecoderShape) -> None:
        self.insertion_layer = resolve_insertion_layer(config.insertion_layer, shape.layers)
        self.config = replace(config, insertion_layer=self.insertion_layer)
        # The latter half of the layers; never one before the insertion point, so that `present` has one meaning.
        latter_half = tuple(range(max(shape.layers // 2, self.insertion_layer), shape.layers))
        self.select_signals: tuple[AttentionReceived, ...] = (
            AttentionReceived(QueryRows(config.rows), (self.insertion_layer - 1,)),
        )
        self.update_signals: tuple[AttentionReceived, ...] = (
            AttentionReceived(QueryRows.ACTION, latter_half),
        )
        self.warmup_steps = config.window
        self.refresh_every = config.refresh_every

    def carry_specs(self, grid: Grid) -> tuple[CarrySpec, ...]:
        """Return the history of action attention, float32 ``(batch, window, tokens)``, oldest frame first."""
        shape = (1, self.config.window, grid.tokens)
        return (CarrySpec(HISTORY, shape, "float32", initial=0.0, dims=("batch", "window", "tokens")),)

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Tensor:
        """Choose ``keep`` tokens, int64 ``(batch, keep)``, ascending.

        Raises:
            PolicyError: ``keep`` lies outside 1..tokens.
        """
        tokens = inputs.embeddings.shape[1]
        check_keep(keep, tokens)
        if keep == tokens:
            return every_token(inputs.embeddings)
        (semantic,) = inputs.attention
        action = smoothed(carry[HISTORY], self.config.decay)
        scored = (semantic, action, inputs.embeddings)
        if self.config.budget == "per_view":
            return choose_per_view(choose_relevant_and_diverse, scored, inputs.grid, keep)
        return choose_relevant_and_diverse(scored, keep)

    def update(self, inputs: UpdateInputs, carry: Carry) -> Carry:
        """Push this frame's action attention, as a distribution over all visual tokens, into the history."""
        (attention,) = inputs.attention
        history = carry[HISTORY]
        if self.config.absent == "presence":
            absent = smoothed(history, self.config.decay)
        else:
            absent = torch.zeros_like(attention)
        return {HISTORY: push(history, visual_distribution(attention, inputs.present, absent))}


def choose_relevant_and_diverse(scored: Sequence[Tensor], keep: int) -> Tensor:
    """Unite the semantic and the action top-k and thin the union to ``keep`` by max-min diversity.

    Args:
        scored: semantic score ``(batch, tokens)``, action score ``(batch, tokens)``, embeddings
            ``(batch, tokens, dim)``.
        keep: Tokens that survive.

    Returns:
        int64 ``(batch, keep)``, ascending.
    """
    semantic, action, embeddings = scored
    relevant = top_k_mask(semantic, keep) | top_k_mask(action, keep)
    return ascending(max_min_diversity(embeddings, relevant, keep))
