"""token_select: each query attends to the first, the last and the most voted-for tokens of the whole cache.

Paper: "TokenSelect: Efficient Long-Context Inference and Length Extrapolation for LLMs via Dynamic Token-Level KV Cache
Selection" (2411.02886); code pzs19/TokenSelect, read at 8e1e97f. In each layer, over the candidates j, which are the
cached tokens that are neither among the first ``initial`` nor among the last ``local`` ones:

    vote_j = sum_h softmax_j(q_h . k_j / sqrt(d))        a soft vote: a loud head has one voice like the others
    attend to: initial | Top-k of vote | local

The selection cache: if cos(q, q') >= ``threshold``, the top-k of q' is used again, q' being the query that made it. The
first and the last tokens are always those of now. While everything fits (128 + 2048 + 512 = 2688 tokens), everything is
attended to and no selection is kept.

``positions="slots"`` follows the code where it differs from the formula above: keys are cached unrotated and take the
positions 0, 1, 2, ... when they are attended to (length extrapolation), and votes are taken as if every candidate stood
``local`` positions before the query. ``scaled=False`` leaves out 1 / sqrt(d) in the vote, as the code does.

Deviations:

* The public code switches the selection cache off, and switched on it would not run (an argument is missing). What
  follows it here: q' is the query of the last *selection*, not the last query, so that a slow drift is noticed.
* The code maps query head h to key-value head h mod kv_heads in the vote; here it is h // group, as in attention.
* A query chunk (the mean of many queries, for prompts) does not occur in a decode step.
* Queries are compared before rotary embedding, where the code rotates both by the same fixed angle: the same cosine.
* Ties go to the oldest token, logits that are not finite have no vote.
* ``pool`` is the code's optional max-pooling of votes over neighbouring tokens, off as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.policies.base import Carry, CarrySpec
from saccade.policies.blocks.selection import SMALLEST_SUM, keep_top_k
from saccade.policies.config import PolicyConfig, require
from saccade.policies.kv.base import (
    Attended,
    KeyPositions,
    KvInputs,
    KvShape,
    QueryHeads,
    QuerySelectionPolicy,
    SlotLogits,
)
from saccade.policies.kv.slots import marked_first, protected_slots

SELECTED, QUERY = "carry.selected_slots", "carry.selecting_query"
_NO_VOTE = -30000.0


@dataclass(frozen=True, kw_only=True)
class TokenSelectConfig(PolicyConfig):
    """Options of token_select.

    Args:
        initial: How many first positions every query attends to.
        top_k: How many tokens are chosen by vote.
        local: How many last positions every query attends to, its own included.
        threshold: Cosine from which on a selection is used again. None = never; every query selects.
        pool: Odd width of the maximum over neighbouring votes; 1 = none.
        scaled: Whether logits are divided by sqrt(head_dim) in the vote.
        positions: Keys keep their ``original`` positions, or are renumbered by ``slots`` (the code).
    """

    initial: int = 128
    top_k: int = 2048
    local: int = 512
    threshold: float | None = 0.9
    pool: int = 1
    scaled: bool = True
    positions: Literal["original", "slots"] = "original"

    def __post_init__(self) -> None:
        require(self.initial >= 0, "initial", "at least 0", self.initial)
        require(self.top_k >= 1, "top_k", "at least 1", self.top_k)
        require(self.local >= 1, "local", "at least 1: a query attends to itself", self.local)
        holds = self.threshold is None or 0.0 < self.threshold <= 1.0
        require(holds, "threshold", "above 0 and at most 1, or null", self.threshold)
        require(self.pool >= 1 and self.pool % 2 == 1, "pool", "odd and positive", self.pool)


class TokenSelect(QuerySelectionPolicy):
    """Per-query selection by the soft vote of all heads."""

    name: ClassVar[str] = "token_select"
    options = TokenSelectConfig

    def __init__(self, config: TokenSelectConfig, shape: KvShape) -> None:
        self.shape = shape
        self.config: TokenSelectConfig = config
        self.positions = KeyPositions(config.positions)
        self.attended = min(shape.capacity, config.initial + config.top_k + config.local)
        self._selects = self.attended < shape.capacity
        distance = config.local if self.positions is KeyPositions.SLOTS else None
        self.signals = (QueryHeads(), SlotLogits(distance)) if self._selects else ()

    def carry_specs(self) -> tuple[CarrySpec, ...]:
        """Return the slots of the last selection and the query that made it, if a cache can outgrow the budget."""
        if not self._selects:
            return ()
        query = (1, self.shape.heads * self.shape.head_dim)
        return (
            CarrySpec(SELECTED, (1, self.config.top_k), "int64", initial=0.0, dims=("batch", "slots")),
            CarrySpec(QUERY, query, "float32", initial=0.0, dims=("batch", "channels")),
        )

    def attend(self, inputs: KvInputs, carry: Carry) -> Attended:
        """Choose by vote, or choose again what was chosen for a similar query."""
        valid = inputs.valid[:, 0]
        if not self._selects:
            return Attended(*marked_first(valid, self.attended), carry)
        query, logits = inputs.signals
        query = torch.where(query.abs() < torch.inf, query, 0.0).flatten(1)
        edges = protected_slots(inputs.positions, inputs.now, self.config.initial, self.config.local)[:, 0]
        candidates = valid & ~edges
        selects = self._differs(query, carry[QUERY])
        fresh = keep_top_k(self._votes(logits, candidates), self.config.top_k)
        selected = torch.where(selects, fresh, carry[SELECTED])
        chosen = torch.zeros_like(valid, dtype=torch.float32).scatter(1, selected, 1.0) > 0.0
        # While every candidate is chosen nothing was decided, and nothing is there to be used again.
        outgrown = candidates.float().sum(dim=1, keepdim=True) > self.config.top_k
        following = {SELECTED: selected, QUERY: torch.where(selects & outgrown, query, carry[QUERY])}
        return Attended(*marked_first(valid & (edges | chosen), self.attended), following)

    def _differs(self, query: Tensor, last: Tensor) -> Tensor:
        """Whether a query is too far from the one that made the last selection: bool ``(batch, 1)``."""
        if self.config.threshold is None:
            return torch.ones_like(query[:, :1], dtype=torch.bool)
        dot = (query * last).sum(dim=1, keepdim=True)
        lengths = query.square().sum(dim=1, keepdim=True) * last.square().sum(dim=1, keepdim=True)
        return ~(dot / lengths.sqrt().clamp(min=SMALLEST_SUM) >= self.config.threshold)

    def _votes(self, logits: Tensor, candidates: Tensor) -> Tensor:
        """Return what all heads give each candidate, ``(batch, capacity)``; minus infinity for other slots."""
        if not self.config.scaled:
            logits = logits * self.shape.head_dim**0.5
        counted = candidates[:, None, None] & (logits.abs() < torch.inf)
        votes = torch.where(counted, logits, _NO_VOTE).softmax(dim=-1).sum(dim=(1, 2))
        votes = torch.where(candidates, votes, -torch.inf)
        if self.config.pool > 1:
            reach, slots = self.config.pool // 2, votes.shape[1]
            padded = F.pad(votes, (reach, reach), value=-torch.inf)
            pooled = torch.stack([padded[:, i : i + slots] for i in range(self.config.pool)]).amax(dim=0)
            votes = torch.where(candidates, pooled, -torch.inf)
        return votes
