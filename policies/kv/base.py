"""The contract of a KV-cache policy: a pure function of declared signals and carry, one decoder layer at a time.

Such a policy belongs to a model that *generates*: each step adds one token to a cache of fixed capacity. Two kinds fit:

* :class:`EvictionPolicy`: the cache is smaller than the sequence. After a query has attended, slots are given up.
* :class:`QuerySelectionPolicy`: the whole sequence stays. Before a query attends, a fixed number of slots is chosen.

A policy names the signals it wants and the decode step computes only those. What a policy remembers is declared as
carry of one layer; the graph stacks the layers.

Names of axes: ``batch`` robots, ``kv_heads`` key-value heads, ``group`` query heads that share one of them
(query head h belongs to key-value head h // group), ``capacity`` slots of the cache. Slots are explained in
:mod:`saccade.policies.kv.slots`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, ClassVar, TypeAlias

from torch import Tensor

from saccade.policies.base import Carry, CarrySpec
from saccade.policies.config import PolicyConfig
from saccade.policies.kv.slots import valid_slots
from saccade.proto.errors import PolicyError


@dataclass(frozen=True)
class KvShape:
    """What a KV policy may know of the model and of its cache.

    Args:
        layers: How many decoder layers there are, each with a cache of its own.
        heads: How many query heads a layer has.
        kv_heads: How many key-value heads a layer has; divides ``heads``.
        head_dim: How many channels a head has.
        capacity: How many slots the cache has, in every layer and head.
    """

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    capacity: int

    def __post_init__(self) -> None:
        sizes = (self.layers, self.heads, self.kv_heads, self.head_dim, self.capacity)
        if min(sizes) < 1 or self.heads % self.kv_heads:
            raise PolicyError(
                f"expected positive sizes and query heads that key-value heads divide, found {self}."
            )

    @property
    def group(self) -> int:
        """How many query heads share one key-value head."""
        return self.heads // self.kv_heads


@dataclass(frozen=True)
class QueryHeads:
    """The current query *before* rotary embedding: ``(batch, kv_heads, group, head_dim)``.

    Not rotated, so that two queries are similar or not whatever lies between them.
    """


@dataclass(frozen=True)
class SlotLogits:
    """Scaled logits of the current query for every slot: ``(batch, kv_heads, group, capacity)``.

    ``query . key / sqrt(head_dim)``; meaningless for free slots.

    Args:
        distance: How many positions every key is taken to stand before the query; None = where attention sees it. A
            number only for policies whose ``positions`` are :attr:`KeyPositions.SLOTS`.
    """

    distance: int | None = None


@dataclass(frozen=True)
class SlotAttention:
    """Softmax attention of the current query: ``(batch, kv_heads, group, capacity)``, 0 for free slots.

    Only for eviction policies: it is known after the query has attended.
    """


KvSignal: TypeAlias = QueryHeads | SlotLogits | SlotAttention


class KeyPositions(str, Enum):
    """Which positions rotary embedding gives to the keys that a query attends to."""

    ORIGINAL = "original"
    """Positions of the tokens in the sequence. Keys are stored rotated."""
    SLOTS = "slots"
    """Positions 0, 1, 2, ... over the keys attended to, oldest first, the query's own last: distances shrink as tokens
    go, and a model never sees one longer than the cache. Keys are stored as projected and rotated at every step."""


@dataclass(frozen=True)
class KvInputs:
    """What a policy sees in one layer at one step. The current token is in the cache already.

    Args:
        layer: Number of the decoder layer.
        signals: One float32 tensor for each request, in the order of the requests.
        positions: Position of the token in each slot, int64 ``(batch, kv_heads, capacity)``; ``EMPTY`` for free slots.
        now: Position of the current token, int64 ``(batch,)``.
    """

    layer: int
    signals: tuple[Tensor, ...]
    positions: Tensor
    now: Tensor

    @property
    def valid(self) -> Tensor:
        """Whether each slot holds a token: bool ``(batch, kv_heads, capacity)``."""
        return valid_slots(self.positions)


@dataclass(frozen=True)
class Eviction:
    """Which slots become free.

    Args:
        evicted: Slots that become free, bool ``(batch, kv_heads, capacity)``; True only for slots that hold a token.
        carry: Carry of this layer for the next step; a slot given up leaves no trace in it.
    """

    evicted: Tensor
    carry: Carry


@dataclass(frozen=True)
class Attended:
    """Which slots the query attends to, the same for every head.

    Args:
        slots: Slots that the query attends to, int64 ``(batch, attended)``: the chosen ones in ascending order, then
            fillers.
        chosen: Which of the slots were chosen, bool ``(batch, attended)``: False for fillers, which are not attended
            to.
        carry: Carry of this layer for the next step.
    """

    slots: Tensor
    chosen: Tensor
    carry: Carry


class KvPolicy(ABC):
    """A KV-cache policy, whichever of the two kinds; built from its options and the :class:`KvShape`.

    Attributes:
        name: Registry key, file name and manifest string.
        options: The class of its options.
        config: The options with every default resolved; ``config.as_dict()`` goes into the manifest.
        shape: Model and cache that the policy was built for.
        signals: Signals that the policy sees in every layer.
        positions: Which positions rotary embedding gives to the keys.
    """

    name: ClassVar[str]
    options: ClassVar[type[PolicyConfig]]
    config: PolicyConfig
    shape: KvShape
    signals: tuple[KvSignal, ...] = ()
    positions: KeyPositions = KeyPositions.ORIGINAL

    @abstractmethod
    def __init__(self, config: Any, shape: KvShape) -> None:
        """Build the policy from its options for one model and capacity."""

    def carry_specs(self) -> tuple[CarrySpec, ...]:
        """Return the carry tensors of one layer, batch first."""
        return ()


class EvictionPolicy(KvPolicy):
    """Gives up slots after the query has attended, always before a write would find the cache full."""

    @abstractmethod
    def evict(self, inputs: KvInputs, carry: Carry) -> Eviction:
        """Note what the query attended to, and say which slots become free.

        At least one slot is free afterwards.
        """


class QuerySelectionPolicy(KvPolicy):
    """Chooses what each query attends to; the cache keeps everything.

    Slots are in the order of positions, since none is ever given up. The host does not go past the capacity; a step
    beyond it overwrites the oldest token.

    Attributes:
        attended: How many slots a query attends to, at most.
    """

    attended: int

    @abstractmethod
    def attend(self, inputs: KvInputs, carry: Carry) -> Attended:
        """Choose the slots for the current query."""


def stacked_specs(policy: KvPolicy) -> tuple[CarrySpec, ...]:
    """Return the policy's carry with the layers on the second axis, as the graph has it."""
    return tuple(
        replace(
            spec,
            shape=(spec.shape[0], policy.shape.layers, *spec.shape[1:]),
            dims=(spec.dims[0], "layers", *spec.dims[1:]),
        )
        for spec in policy.carry_specs()
    )
