"""keep_all: every visual token survives. The baseline of parity tests and of every quality table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from saccade.policies.base import (
    AttentionReceived,
    Carry,
    CarrySpec,
    DecoderShape,
    Grid,
    SelectionInputs,
    UpdateInputs,
)
from saccade.policies.config import PolicyConfig
from saccade.policies.selection import every_token
from saccade.proto.errors import PolicyError


@dataclass(frozen=True, kw_only=True)
class KeepAllConfig(PolicyConfig):
    """keep_all has no options."""


class KeepAll:
    """The identity as a policy: no signals, no carry, acts at the decoder's entry."""

    name: ClassVar[str] = "keep_all"

    def __init__(self, config: KeepAllConfig, shape: DecoderShape) -> None:
        del shape
        self.config = config
        self.insertion_layer = 0
        self.select_signals: tuple[AttentionReceived, ...] = ()
        self.update_signals: tuple[AttentionReceived, ...] = ()
        self.warmup_steps = 0
        self.refresh_every = 0

    def carry_specs(self, grid: Grid) -> tuple[CarrySpec, ...]:
        """Return nothing: keep_all remembers nothing."""
        del grid
        return ()

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Tensor:
        """Return 0..tokens-1.

        Raises:
            PolicyError: ``keep`` is not the number of visual tokens.
        """
        del carry
        tokens = inputs.embeddings.shape[1]
        if keep != tokens:
            raise PolicyError(
                f"policy 'keep_all' keeps all {tokens} visual tokens, found keep {keep}; "
                "export it with --keep 1.0 only, or choose a policy that selects"
            )
        return every_token(inputs.embeddings)

    def update(self, inputs: UpdateInputs, carry: Carry) -> Carry:
        """Return the carry unchanged (it is empty)."""
        del inputs
        return carry
