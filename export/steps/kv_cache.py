"""A key-value cache of fixed capacity as ordinary tensors: written by scatter, emptied by forgetting positions.

Three carry tensors hold the cache of all layers: keys and values ``(batch, layers, kv_heads, capacity, head_dim)`` and
the position of the token in each slot, int64 ``(batch, layers, kv_heads, capacity)``. Each head has slots of its own,
because each may give up others. What slots mean is explained in :mod:`saccade.policies.kv.slots`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from saccade.policies.base import Carry, CarrySpec
from saccade.policies.kv.base import KvShape
from saccade.policies.kv.slots import EMPTY, next_slot, write_position

KEYS, VALUES, POSITIONS = "carry.keys", "carry.values", "carry.slot_positions"


def cache_specs(shape: KvShape, dtype: str = "float32") -> tuple[CarrySpec, ...]:
    """Return the carry of the cache, in the order of the graph's inputs; reset empties it."""
    slots = (1, shape.layers, shape.kv_heads, shape.capacity)
    dims = ("batch", "layers", "heads", "slots")
    channels = ((*slots, shape.head_dim), dtype, 0.0, (*dims, "channels"))
    return (
        CarrySpec(KEYS, *channels),
        CarrySpec(VALUES, *channels),
        CarrySpec(POSITIONS, slots, "int64", initial=float(EMPTY), dims=dims),
    )


class LayerCache(NamedTuple):
    """The cache of one layer.

    Args:
        keys: Cached keys, ``(batch, kv_heads, capacity, head_dim)``.
        values: Cached values, ``(batch, kv_heads, capacity, head_dim)``.
        positions: Position of the token in each slot, int64 ``(batch, kv_heads, capacity)``, ``EMPTY`` for free slots.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor

    @classmethod
    def of(cls, carry: Carry, layer: int) -> LayerCache:
        """Take the cache of one layer out of the carry."""
        return cls(*(carry[name][:, layer] for name in (KEYS, VALUES, POSITIONS)))

    def write(self, key: Tensor, value: Tensor, now: Tensor) -> LayerCache:
        """Put one token into the first free slot of each head.

        Args:
            key: Key of the token, ``(batch, kv_heads, 1, head_dim)``.
            value: Value of the token, ``(batch, kv_heads, 1, head_dim)``.
            now: Position of the token, int64 ``(batch,)``; ``EMPTY`` leaves the slot free.
        """
        slot = next_slot(self.positions)
        index = slot[:, :, None, None].expand_as(key)
        return LayerCache(
            self.keys.scatter(2, index, key),
            self.values.scatter(2, index, value),
            write_position(self.positions, slot, now),
        )

    def free(self, evicted: Tensor) -> LayerCache:
        """Forget the tokens in some slots, bool ``(batch, kv_heads, capacity)``."""
        return self._replace(positions=torch.where(evicted, EMPTY, self.positions))


def stacked(layers: list[LayerCache]) -> Carry:
    """Return the carry of all layers' caches."""
    names = (KEYS, VALUES, POSITIONS)
    return {
        name: torch.stack(side, dim=1) for name, side in zip(names, zip(*layers, strict=True), strict=True)
    }
