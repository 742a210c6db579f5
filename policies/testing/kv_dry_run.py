"""A cache that fills step by step on random signals, without a model: what KV conformance tests and oracles run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.policies.base import Carry
from saccade.policies.kv.base import (
    EvictionPolicy,
    KvInputs,
    KvPolicy,
    KvShape,
    KvSignal,
    QueryHeads,
    QuerySelectionPolicy,
    SlotAttention,
)
from saccade.policies.kv.slots import EMPTY, next_slot, valid_slots, write_position

KV_SHAPE = KvShape(layers=3, heads=4, kv_heads=2, head_dim=8, capacity=24)
MEANINGLESS = 123.0
"""Logit of a free slot: no policy may be led by it."""

Spoil = Callable[[KvSignal, Tensor], Tensor]
"""Changes a drawn signal, e.g. writes NaN into it."""


@dataclass(frozen=True)
class KvRecord:
    """What one step of one layer saw and decided.

    Args:
        inputs: What the policy saw.
        positions: Position of the token in each slot after the step, int64 ``(batch, kv_heads, capacity)``.
        evicted: Slots that an eviction policy freed, bool ``(batch, kv_heads, capacity)``; None for a selection policy.
        slots: Slots that a selection policy attends to, int64 ``(batch, attended)``; None for an eviction policy.
        chosen: Which of these slots were chosen, bool ``(batch, attended)``; None for an eviction policy.
        carry: Carry after the step.
    """

    inputs: KvInputs
    positions: Tensor
    evicted: Tensor | None
    slots: Tensor | None
    chosen: Tensor | None
    carry: Carry


def empty_slots(shape: KvShape, batch: int = 1) -> Tensor:
    """Return the positions of an empty cache of one layer."""
    return torch.full((batch, shape.kv_heads, shape.capacity), EMPTY)


def initial_kv_carry(policy: KvPolicy, batch: int = 1) -> Carry:
    """Return what reset hands to the first step of one layer."""
    return {
        spec.name: torch.full((batch, *spec.shape[1:]), spec.initial, dtype=getattr(torch, spec.dtype))
        for spec in policy.carry_specs()
    }


def advance(
    policy: KvPolicy, layer: int, now: Tensor, positions: Tensor, signals: tuple[Tensor, ...], carry: Carry
) -> KvRecord:
    """Write the token ``now`` into the cache and let the policy choose."""
    positions = write_position(positions, next_slot(positions), now)
    inputs = KvInputs(layer, signals, positions, now)
    if isinstance(policy, EvictionPolicy):
        eviction = policy.evict(inputs, carry)
        left = torch.where(eviction.evicted, EMPTY, positions)
        return KvRecord(inputs, left, eviction.evicted, None, None, eviction.carry)
    if not isinstance(policy, QuerySelectionPolicy):
        raise TypeError(f"expected an EvictionPolicy or a QuerySelectionPolicy, found {type(policy)}")
    attended = policy.attend(inputs, carry)
    return KvRecord(inputs, positions, None, attended.slots, attended.chosen, attended.carry)


def draw_kv_signals(policy: KvPolicy, positions: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Draw what the policy asks for; ``positions`` are those before the current token is written."""
    held = write_position(positions, next_slot(positions), torch.zeros(positions.shape[0], dtype=torch.int64))
    return tuple(_draw(request, policy.shape, valid_slots(held), generator) for request in policy.signals)


def _draw(request: KvSignal, shape: KvShape, valid: Tensor, generator: torch.Generator) -> Tensor:
    batch = valid.shape[0]
    if isinstance(request, QueryHeads):
        # Close to one another, so that some selections are used again and some are not.
        drift = torch.randn(batch, shape.kv_heads, shape.group, shape.head_dim, generator=generator)
        return 1.0 + 0.45 * drift
    logits = 2.0 * torch.randn(batch, shape.kv_heads, shape.group, shape.capacity, generator=generator)
    if isinstance(request, SlotAttention):
        return torch.where(valid.unsqueeze(2), logits, -torch.inf).softmax(dim=-1)
    return torch.where(valid.unsqueeze(2), logits, MEANINGLESS)


def unspoiled(request: KvSignal, signal: Tensor) -> Tensor:
    """Leave the signal as it is."""
    del request
    return signal


def play_kv(
    policy: KvPolicy,
    seed: int,
    steps: int,
    batch: int = 1,
    layer: int = 0,
    spoil: Spoil = unspoiled,
) -> Iterator[KvRecord]:
    """Run a layer's cache from empty; robot b draws the same as it would alone with seed ``seed + b``."""
    generators = [torch.Generator().manual_seed(seed + robot) for robot in range(batch)]
    positions, carry = empty_slots(policy.shape, batch), initial_kv_carry(policy, batch)
    for step in range(steps):
        robots = [
            draw_kv_signals(policy, positions[robot : robot + 1], generator)
            for robot, generator in enumerate(generators)
        ]
        signals = tuple(
            spoil(request, torch.cat(parts))
            for request, parts in zip(policy.signals, zip(*robots, strict=True), strict=True)
        )
        record = advance(policy, layer, torch.full((batch,), step), positions, signals, carry)
        positions, carry = record.positions, record.carry
        yield record


class KvPolicyStep(torch.nn.Module):
    """One step of one layer as a graph: now, positions, signals, carry in; what was decided and the next state out."""

    def __init__(self, policy: KvPolicy, layer: int = 0) -> None:
        super().__init__()
        self.policy, self.layer = policy, layer
        self.carry_names = [spec.name for spec in policy.carry_specs()]

    def forward(self, now: Tensor, positions: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Return evicted, or slots and chosen; then positions and the carry."""
        signals = rest[: len(self.policy.signals)]
        carry = dict(zip(self.carry_names, rest[len(signals) :], strict=True))
        record = advance(self.policy, self.layer, now, positions, signals, carry)
        decided = (record.evicted,) if record.evicted is not None else (record.slots, record.chosen)
        found = tuple(tensor for tensor in decided if tensor is not None)
        return *found, record.positions, *(record.carry[name] for name in self.carry_names)
