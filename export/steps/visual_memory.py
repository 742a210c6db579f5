"""Keys and values of visual tokens that a policy does not compute again but takes from an earlier control step.

Only for cuts at the decoder's entry that say ``Behind.LAST_STEP``. Every layer then attends to all visual tokens: fresh
keys and values where a token was computed, those of the carry where it was not.

Source:
    VLA-Cache (2502.02175), with a fixed number of tokens computed per control step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saccade.export.families.base import PerceivingFamily
from saccade.export.families.sequence import VISUAL, SequenceLayout
from saccade.policies.base import Behind, Carry, CarrySpec, Place, TokenPolicy

KEYS, VALUES = "carry.visual_keys", "carry.visual_values"


def memory_specs(policy: TokenPolicy, family: PerceivingFamily) -> tuple[CarrySpec, ...]:
    """Return the carry of keys and values, float32 ``(batch, layers, kv_heads, tokens, head_dim)``, if it is needed."""
    if not remembers(policy):
        return ()
    config = family.decoder.config
    shape = (1, config.layers, config.kv_heads, family.grid.tokens, config.head_dim)
    dims = ("batch", "layers", "heads", "tokens", "channels")
    return tuple(CarrySpec(name, shape, "float32", initial=0.0, dims=dims) for name in (KEYS, VALUES))


def remembers(policy: TokenPolicy) -> bool:
    """Whether decoder layers behind some cut of the policy take dropped tokens from the last control step."""
    return any(cut.behind is Behind.LAST_STEP and cut.place is Place.DECODER for cut in policy.cuts)


class VisualMemory:
    """The visual keys and values of one control step, layer by layer.

    Args:
        layout: Layout of the whole sequence.
        keys: Keys in the carry, ``(batch, layers, kv_heads, tokens, head_dim)``; None: nothing is remembered.
        values: Values in the carry, ``(batch, layers, kv_heads, tokens, head_dim)``; None: nothing is remembered.
    """

    def __init__(self, layout: SequenceLayout, keys: Tensor | None, values: Tensor | None) -> None:
        self._layout, self._keys, self._values = layout, keys, values
        self._fresh: list[tuple[Tensor, Tensor]] = []
        self._computed: Tensor | None = None

    @classmethod
    def of(cls, policy: TokenPolicy, carry: Carry, layout: SequenceLayout) -> VisualMemory:
        """Read the memory from the carry, if the policy has one."""
        if not remembers(policy):
            return cls(layout, None, None)
        return cls(layout, carry[KEYS], carry[VALUES])

    @property
    def is_used(self) -> bool:
        """Whether layers must go through :meth:`extend`."""
        return self._keys is not None

    def compute_only(self, computed: Tensor) -> None:
        """From here on only the visual tokens ``computed``, int64 ``(batch, keep)``, are in the sequence."""
        self._computed = computed

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return a layer's keys and values with every visual token in its place; call once per layer, in order."""
        layer = len(self._fresh)
        assert self._keys is not None and self._values is not None  # noqa: S101 - is_used was asked
        full_key = self._fill(key, self._keys[:, layer])
        full_value = self._fill(value, self._values[:, layer])
        span = self._layout.span(VISUAL)
        self._fresh.append((full_key[:, :, span], full_value[:, :, span]))
        return full_key, full_value

    def carry(self) -> Carry:
        """Return the memory for the next control step."""
        if not self.is_used:
            return {}
        keys, values = (torch.stack(side, dim=1) for side in zip(*self._fresh, strict=True))
        return {KEYS: keys, VALUES: values}

    def _fill(self, fresh: Tensor, remembered: Tensor) -> Tensor:
        """(batch, heads, tokens in the sequence, channels) -> the same with every visual token."""
        if self._computed is None:
            return fresh
        start, keep = self._layout.span(VISUAL).start, self._computed.shape[1]
        index = self._computed[:, None, :, None].expand(-1, fresh.shape[1], -1, fresh.shape[3])
        visual = remembered.scatter(2, index, fresh[:, :, start : start + keep])
        return torch.cat([fresh[:, :, :start], visual, fresh[:, :, start + keep :]], dim=2)
