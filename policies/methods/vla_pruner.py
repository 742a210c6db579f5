"""vla_pruner: keep what the instruction attends to *and* what recent actions attended to, without duplicates.

Paper: "VLA-Pruner" (arXiv 2511.16449); code MINT-SJTU/VLA-Pruner, read at fa5bfed. Training-free.

One drop of visual tokens in front of decoder layer K, in four moves (M visual tokens, k survive):

1. *Semantic score*: attention that each token receives in layer K-1 of this control step.
2. *Action score*: attention that each token received from the action queries over the latter half of the layers,
   smoothed over the last w control steps: ``sum_{i=1..w} g^i row(t-i) / sum g^i``.
3. *Relevance*: the union C of the two top-k sets, so k <= |C| <= 2k.
4. *Redundancy*: max-min diversity on the decoder's input embeddings thins C to exactly k. Order and positions of
   the survivors stay the original ones.

Deviations from the paper, and from its code:

- The decay is newest-heaviest as in the paper; the code at fa5bfed has it reversed.
- Semantic rows default to the *text* rows. The paper averages all rows, the code takes the last one; neither suits
  a bidirectional decoder. ``rows`` selects.
- A pruned token has no action attention. Paper and code record 0, so a dropped token can return only through the
  semantic score and the choice reinforces itself. By default (``absent="presence"``) an absent token keeps its
  smoothed estimate instead: what was once attended to can return, but one whose estimate is low still needs the
  instruction to bring it back. ``absent="zero"`` is the paper. What opens the loop for all: ``refresh_every`` runs a
  full control step now and then, and ``action_layers="full"`` reads the action rows before the cut, where nothing is
  absent.
- Other ``relevance`` values and ``history="frozen"`` are the paper's ablations, not for use.
- Each control step's row is normalised over visual tokens before it enters the history, so that pruned steps, which
  spread the softmax over fewer tokens, do not outweigh full ones.
- ``budget="per_view"`` gives every camera its share of k; the paper selects jointly.
- The redundancy filter compares rounded distances, see :mod:`saccade.policies.blocks.diversity`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from saccade.policies.base import (
    Carry,
    CarrySpec,
    Grid,
    ModelShape,
    Selection,
    SelectionInputs,
    TokenPolicy,
    UpdateInputs,
    decoder_cut,
)
from saccade.policies.blocks.budgets import choose_per_view
from saccade.policies.blocks.diversity import max_min_diversity
from saccade.policies.blocks.selection import (
    as_share,
    ascending,
    gather_tokens,
    keep_top_k,
    masked_first,
    ranks,
    top_k_mask,
)
from saccade.policies.blocks.smoothing import push, smoothed, visual_distribution
from saccade.policies.config import PolicyConfig, require, resolve_insertion_layer, tunable
from saccade.policies.signals import AttentionReceived, QueryRows

HISTORY, AGE = "carry.action_history", "carry.history_age"


@dataclass(frozen=True, kw_only=True)
class VlaPrunerConfig(PolicyConfig):
    """Options of vla_pruner; the defaults are the paper's where it states them.

    Args:
        insertion_layer: K, the first decoder layer that sees only the kept tokens. None = 3 for 32 layers, scaled
            to shallower decoders and at least 1.
        rows: Query rows of the semantic score: ``text`` (instruction tokens), ``last`` (one row, for causal
            decoders), ``all`` (the paper; each column is averaged over the rows that can see it).
        window: w, control steps in the history; also the number of full control steps after a reset.
        decay: Factor gamma in (0, 1] by which a control step weighs less than the one after it.
        action_layers: Where action rows are read: the ``latter_half`` of the decoder (the paper), or the latter half of
            the ``full`` layers before the cut.
        absent: What the history records for a pruned token: its smoothed estimate (``presence``) or 0 (``zero``).
        budget: Whether there is one budget over all views (``joint``) or an even share for each (``per_view``).
        refresh_every: Every n-th control step runs with every token, so that no estimate grows stale; 0 = never.
        relevance: Which tokens are relevant: ``union``, both top-k sets, thinned by diversity (the paper). Its
            ablations: ``semantic`` or ``action`` alone, ``fused`` (top-k of the mean of both), ``unfiltered`` (the best
            ranks of the union).
        history: Whether the history goes on (``live``), or stays as it is after the warm-up (``frozen``, an ablation).
    """

    insertion_layer: int | None = None
    rows: Literal["text", "last", "all"] = "text"
    window: int = tunable(3, 1, 8)
    decay: float = tunable(0.8, 0.1, 1.0)
    action_layers: Literal["latter_half", "full"] = "latter_half"
    absent: Literal["presence", "zero"] = "presence"
    budget: Literal["joint", "per_view"] = "joint"
    refresh_every: int = 0
    relevance: Literal["union", "semantic", "action", "fused", "unfiltered"] = "union"
    history: Literal["live", "frozen"] = "live"

    def __post_init__(self) -> None:
        require(1 <= self.window <= 64, "window", "in 1..64", self.window)
        require(0.0 < self.decay <= 1.0, "decay", "above 0 and at most 1", self.decay)
        require(self.refresh_every >= 0, "refresh_every", "0 (never) or more", self.refresh_every)


class VlaPruner(TokenPolicy):
    """Dual-level token pruning of VLA-Pruner; the module docstring has the method and the deviations."""

    name: ClassVar[str] = "vla_pruner"
    options = VlaPrunerConfig

    def __init__(self, config: VlaPrunerConfig, shape: ModelShape) -> None:
        cut = resolve_insertion_layer(config.insertion_layer, shape.layers)
        self.config: VlaPrunerConfig = replace(config, insertion_layer=cut)
        self.cuts = decoder_cut(cut, AttentionReceived(QueryRows(config.rows), (cut - 1,)))
        # All behind the cut or all before it, so that `present` has one meaning.
        half = range(max(shape.layers // 2, cut), shape.layers)
        layers = range(cut // 2, cut) if config.action_layers == "full" else half
        self.update_signals = (AttentionReceived(QueryRows.ACTION, tuple(layers)),)
        self.warmup_steps = config.window
        self.refresh_every = config.refresh_every

    def carry_specs(self, grid: Grid) -> tuple[CarrySpec, ...]:
        """Return the history of action attention, float32 ``(batch, window, tokens)``, oldest control step first."""
        shape = (1, self.config.window, grid.tokens)
        history = CarrySpec(HISTORY, shape, "float32", initial=0.0, dims=("batch", "window", "tokens"))
        if self.config.history == "live":
            return (history,)
        return (history, CarrySpec(AGE, (1,), "int64", initial=0.0, dims=("batch",)))

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return the ``keep`` tokens that matter to the instruction or to the action, without duplicates."""
        (semantic,) = inputs.signals
        action = smoothed(carry[HISTORY], self.config.decay)
        scored = (semantic, action, inputs.embeddings)
        choose = RELEVANCE[self.config.relevance]
        if self.config.budget == "per_view":
            return Selection(choose_per_view(choose, scored, inputs.grid, keep))
        return Selection(choose(scored, keep))

    def update(self, inputs: UpdateInputs, carry: Carry) -> Carry:
        """Push this step's action attention, as a distribution over all visual tokens, into the history."""
        (attention,) = inputs.signals
        history = carry[HISTORY]
        if self.config.absent == "presence":
            absent = smoothed(history, self.config.decay)
        else:
            absent = torch.zeros_like(attention)
        pushed = push(history, visual_distribution(attention, inputs.present, absent))
        if self.config.history == "live":
            return {HISTORY: pushed}
        filling = (carry[AGE] < self.config.window)[:, None, None]
        age = (carry[AGE] + 1).clamp(max=self.config.window)
        return {HISTORY: torch.where(filling, pushed, history), AGE: age}


def union_thinned(scored: Sequence[Tensor], keep: int) -> Tensor:
    """Unite the semantic and the action top-k and thin the union to ``keep`` by max-min diversity.

    Args:
        scored: Semantic score ``(batch, tokens)``, action score ``(batch, tokens)``, embeddings
            ``(batch, tokens, dim)``.
        keep: How many tokens survive.

    Returns:
        int64 ``(batch, keep)``, ascending.
    """
    semantic, action, embeddings = scored
    # Both rankings in one: half the nodes.
    relevant = top_k_mask(torch.stack((semantic, action)), keep).any(dim=0)
    # The union has at most 2 k tokens: distances are taken among so many, not among all.
    slots = min(2 * keep, relevant.shape[1])
    if slots == relevant.shape[1]:
        return ascending(max_min_diversity(embeddings, relevant, keep))
    candidates, eligible = masked_first(relevant, slots)
    picks = max_min_diversity(gather_tokens(embeddings, candidates), eligible, keep)
    return ascending(torch.gather(candidates, 1, picks))


def union_unfiltered(scored: Sequence[Tensor], keep: int) -> Tensor:
    """Take the tokens whose better rank of the two scores is best, ties to the lowest index.

    Args:
        scored: Semantic score ``(batch, tokens)``, action score ``(batch, tokens)``, embeddings, which are not read.
        keep: How many tokens survive.
    """
    semantic, action, _ = scored
    return keep_top_k(-torch.minimum(ranks(semantic), ranks(action)), keep)


def fused(scored: Sequence[Tensor], keep: int) -> Tensor:
    """Take the top-k of the mean of both scores, each scaled to sum 1.

    Args:
        scored: Semantic score ``(batch, tokens)``, action score ``(batch, tokens)``, embeddings, which are not read.
        keep: How many tokens survive.
    """
    semantic, action, _ = scored
    return keep_top_k(as_share(semantic) + as_share(action), keep)


RELEVANCE = {
    "union": union_thinned,
    "semantic": lambda scored, keep: keep_top_k(scored[0], keep),
    "action": lambda scored, keep: keep_top_k(scored[1], keep),
    "fused": fused,
    "unfiltered": union_unfiltered,
}
