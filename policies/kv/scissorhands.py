"""scissorhands: when the cache is full, give up the slots that attention passed over most often.

Paper: "Scissorhands: Exploiting the Persistence of Importance Hypothesis for LLM KV Cache Compression at Test Time"
(2305.17118). A token that mattered once goes on to matter, so what was passed over lately can go:

    u_j = |{ q among the last w queries : A[q, j] < 1 / t_q }|        t_q: slots that query q saw
    when a layer holds B tokens: free the m of largest u_j, never one of the last r

B is the budget, w the ``window``, r ``recent``, m = ``evict_share`` * B.

No public code was found and the paper's text was not at hand. From memory: w = 400, r = 10, m = B / 2, and that late
layers get larger budgets (no rule for how much; here all are equal unless ``budgets`` says otherwise).

Our reading:

* t_q is the number of tokens in the cache, not in the whole sequence: "below uniform" over what the query could see.
* Each key-value head counts and evicts by itself (``scope="head"``). Query heads that share one vote together: u_j is
  the sum over the group. ``scope="layer"`` lets all heads of a layer vote and evict as one.
* Equal u_j: the oldest token goes first. u_j is a small integer, so ties are common.
* A prompt that was put into the cache without passing through decode steps has no record; its attention is not counted.
* ``start`` protects the first positions, which the paper does not do.

The window is exact with a state of 2 * (floor(w / m) + 1) rows of ``capacity`` instead of w rows: when the next
eviction will happen is known (the cache fills by one token a step), so queries are counted in blocks of m that end at
evictions, and of the oldest block only its last ``w mod m`` queries are counted. (While a prompt that is longer than a
layer's budget is worn down, evictions follow one another and a block is one query: the window is shorter then.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from saccade.policies.base import Carry, CarrySpec
from saccade.policies.config import PolicyConfig, require
from saccade.policies.kv.base import Eviction, EvictionPolicy, KvInputs, KvShape, SlotAttention
from saccade.policies.kv.slots import lowest_slots, protected_slots, used, valid_slots

BLOCKS, TAILS = "carry.low_counts", "carry.low_tail_counts"


@dataclass(frozen=True, kw_only=True)
class ScissorhandsConfig(PolicyConfig):
    """Options of scissorhands.

    Args:
        budgets: B of each layer, at most the capacity. None = the capacity in all of them.
        window: w, queries that are counted.
        recent: r, newest tokens that are never given up, the current one included.
        evict_share: m as a share of B.
        start: First positions that are never given up; 0 as in the paper.
        scope: Heads evict each by itself, or as one in a layer.
    """

    budgets: tuple[int, ...] | None = None
    window: int = 400
    recent: int = 10
    evict_share: float = 0.5
    start: int = 0
    scope: Literal["head", "layer"] = "head"

    def __post_init__(self) -> None:
        require(self.window >= 1, "window", "at least 1", self.window)
        require(self.recent >= 0, "recent", "at least 0", self.recent)
        require(0.0 < self.evict_share <= 1.0, "evict_share", "above 0 and at most 1", self.evict_share)
        require(self.start >= 0, "start", "at least 0", self.start)


class Scissorhands(EvictionPolicy):
    """A cache that counts attention below uniform over a window, and frees many slots at once, rarely."""

    name: ClassVar[str] = "scissorhands"
    options = ScissorhandsConfig

    def __init__(self, config: ScissorhandsConfig, shape: KvShape) -> None:
        budgets = (shape.capacity,) * shape.layers if config.budgets is None else config.budgets
        require(len(budgets) == shape.layers, "budgets", f"one for each of {shape.layers} layers", budgets)
        require(
            all(1 <= budget <= shape.capacity for budget in budgets),
            "budgets",
            f"in 1..{shape.capacity}, the capacity",
            budgets,
        )
        self.shape = shape
        self.config: ScissorhandsConfig = replace(config, budgets=budgets)
        self.budgets = budgets
        self.evicts = tuple(max(1, int(config.evict_share * budget)) for budget in budgets)
        for budget, evict in zip(budgets, self.evicts, strict=True):
            room = budget - config.start - config.recent
            require(
                evict <= room,
                "evict_share",
                f"such that {evict} of {budget} slots can go beside {config.start} first and {config.recent} recent "
                "ones; lower it or 'recent', or raise the capacity",
                config.evict_share,
            )
        self.signals = (SlotAttention(),)
        self._blocks = max(config.window // evict for evict in self.evicts) + 1

    def carry_specs(self) -> tuple[CarrySpec, ...]:
        """Return how often each slot was passed over, by block of queries, newest block first; whole and tail."""
        shape = (1, self.shape.kv_heads, self._blocks, self.shape.capacity)
        dims = ("batch", "heads", "blocks", "slots")
        return tuple(CarrySpec(name, shape, "float32", initial=0.0, dims=dims) for name in (BLOCKS, TAILS))

    def evict(self, inputs: KvInputs, carry: Carry) -> Eviction:
        """Count what this query passed over; in a full layer free the m slots that were passed over most."""
        (attention,) = inputs.signals
        evict = self.evicts[inputs.layer]
        whole_blocks, tail = divmod(self.config.window, evict)
        steps_left = (self.budgets[inputs.layer] - used(inputs.positions)).clamp(min=0.0)
        place = steps_left.long() % evict  # queries that this block still has to come; 0 = its last

        low = self._passed_over(attention, inputs.positions)
        blocks = _add_to_newest(carry[BLOCKS], low)
        tails = _add_to_newest(carry[TAILS], torch.where(place < tail, low, 0.0))
        counted = tails[:, :, whole_blocks]
        if whole_blocks:
            counted = counted + blocks[:, :, :whole_blocks].sum(dim=2)

        protected = protected_slots(inputs.positions, inputs.now, self.config.start, self.config.recent)
        candidates = inputs.valid & ~protected
        chosen = lowest_slots(-counted, candidates, inputs.positions, evict)
        evicted = chosen & (steps_left == 0.0)
        ends = (place == 0).unsqueeze(-1)
        following = {
            name: torch.where(evicted.unsqueeze(2), 0.0, torch.where(ends, _next_block(counts), counts))
            for name, counts in ((BLOCKS, blocks), (TAILS, tails))
        }
        return Eviction(evicted, following)

    def _passed_over(self, attention: Tensor, positions: Tensor) -> Tensor:
        """Return how many query heads gave a slot less than its uniform share, ``(batch, kv_heads, capacity)``."""
        valid = valid_slots(positions)
        share = 1.0 / used(positions).clamp(min=1.0).unsqueeze(2)
        clean = torch.where(attention.abs() < torch.inf, attention, 0.0)
        votes = (clean < share).float().sum(dim=2) * valid.float()
        if self.config.scope == "layer":
            votes = votes.sum(dim=1, keepdim=True).expand_as(votes)
        return votes


def _add_to_newest(counts: Tensor, low: Tensor) -> Tensor:
    """Add ``(batch, heads, slots)`` to the newest block."""
    return torch.cat([counts[:, :, :1] + low.unsqueeze(2), counts[:, :, 1:]], dim=2)


def _next_block(counts: Tensor) -> Tensor:
    """Begin an empty block and forget the oldest."""
    return torch.cat([torch.zeros_like(counts[:, :, :1]), counts[:, :, :-1]], dim=2)
