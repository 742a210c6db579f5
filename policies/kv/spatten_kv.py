"""spatten_kv: first, important and recent slots stay; the least important of the middle goes when the cache is full.

Paper: "SpAtten: Efficient Sparse Attention Architecture with Cascade Token and Head Pruning" (2012.09852), in the
variant that its authors released for language models; code mit-han-lab/spatten, read at a0f1388 (``spatten_llm``).
There the cache of each layer and head holds

    the first S tokens  |  the I tokens of the middle with the highest importance  |  the last R tokens

and, to make room for c tokens to come, shrinks to S + I + (R - c). Importance is the attention logit of the current
query. Here the capacity is S + I + R, c is ``evict``, and a full cache frees c slots: the same three segments.
The class of that code has S/I/R = 4/128/128 and its script 0/150/150; ``recent=None`` gives both at their capacities.
With R = capacity - S nothing but age counts: that is StreamingLLM's window with attention sinks.

``importance="cumulative"`` is the measure of the paper: attention probabilities summed over queries. That sum favours
early tokens, which more queries have seen, so it is divided by the number of queries that saw the token.
Queries of a prompt that was put into the cache as a prefill computed it left no record, and are counted in neither.

Deviations:

* The code shrinks the cache between two turns of a chat, by the length of the turn to come; here it happens in the
  step that fills the cache, by ``evict``.
* The code adds up the robots of a batch (it is written for one) and has no grouped key-value heads. Here robots are
  apart and query heads of one key-value head are added up.
* ``positions="original"``: rotary embedding keeps each token's own position. The code renumbers the keys by slot:
  ``positions="slots"``.
* Equal importance: the oldest token goes first.
* The paper's cascade over layers, head pruning, local value pruning and progressive quantisation are not in the
  released variant and not here; a token is dropped by each layer and head for itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from saccade.policies.base import Carry, CarrySpec
from saccade.policies.config import PolicyConfig, require
from saccade.policies.kv.base import (
    Eviction,
    EvictionPolicy,
    KeyPositions,
    KvInputs,
    KvShape,
    SlotAttention,
    SlotLogits,
)
from saccade.policies.kv.slots import lowest_slots, protected_slots, used

RECEIVED, SEEN = "carry.attention_received", "carry.queries_seen"


@dataclass(frozen=True, kw_only=True)
class SpAttenKvConfig(PolicyConfig):
    """Options of spatten_kv.

    Args:
        start: S, first positions that always stay.
        recent: R, newest tokens of a full cache that are not judged. None = half of what S leaves.
        evict: c, slots that a full cache frees; at most R.
        importance: By the logits of the ``current`` query (the released code), or ``cumulative`` attention (the paper).
        positions: Keys keep their ``original`` positions, or are renumbered by ``slots`` (the released code).
    """

    start: int = 4
    recent: int | None = None
    evict: int = 1
    importance: Literal["current", "cumulative"] = "current"
    positions: Literal["original", "slots"] = "original"

    def __post_init__(self) -> None:
        require(self.start >= 0, "start", "at least 0", self.start)
        require(self.evict >= 1, "evict", "at least 1", self.evict)


class SpAttenKv(EvictionPolicy):
    """Three segments: first, important, recent.

    Attributes:
        important: I, tokens of the middle that stay.
    """

    name: ClassVar[str] = "spatten_kv"
    options = SpAttenKvConfig

    def __init__(self, config: SpAttenKvConfig, shape: KvShape) -> None:
        rest = shape.capacity - config.start
        recent = rest // 2 if config.recent is None else config.recent
        require(rest >= 1, "start", f"below the capacity {shape.capacity}", config.start)
        require(
            config.evict <= recent <= rest,
            "recent",
            f"in {config.evict}..{rest} ('evict' to the rest)",
            recent,
        )
        self.shape = shape
        self.config: SpAttenKvConfig = replace(config, recent=recent)
        self.important = rest - recent
        self.positions = KeyPositions(config.positions)
        self._spared = recent - config.evict
        self._cumulative = config.importance == "cumulative"
        self.signals = (SlotAttention() if self._cumulative else SlotLogits(),)

    def carry_specs(self) -> tuple[CarrySpec, ...]:
        """Return the attention that each slot received so far and from how many queries, if that is what counts."""
        if not self._cumulative:
            return ()
        shape = (1, self.shape.kv_heads, self.shape.capacity)
        dims = ("batch", "heads", "slots")
        return tuple(CarrySpec(name, shape, "float32", initial=0.0, dims=dims) for name in (RECEIVED, SEEN))

    def evict(self, inputs: KvInputs, carry: Carry) -> Eviction:
        """Free the least important slots of the middle, if the cache is full."""
        (signal,) = inputs.signals
        importance, following = signal.sum(dim=2), {}
        if self._cumulative:
            clean = torch.where(signal.abs() < torch.inf, signal, 0.0).sum(dim=2)
            received = torch.where(inputs.valid, carry[RECEIVED] + clean, 0.0)
            seen = torch.where(inputs.valid, carry[SEEN] + 1.0, 0.0)
            importance, following = received / seen.clamp(min=1.0), {RECEIVED: received, SEEN: seen}
        protected = protected_slots(inputs.positions, inputs.now, self.config.start, self._spared)
        chosen = lowest_slots(importance, inputs.valid & ~protected, inputs.positions, self.config.evict)
        evicted = chosen & (used(inputs.positions) >= self.shape.capacity)
        return Eviction(evicted, {name: torch.where(evicted, 0.0, kept) for name, kept in following.items()})
