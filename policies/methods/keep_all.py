"""keep_all: every visual token survives. The baseline of parity tests and of every quality table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.policies.base import (
    Carry,
    ModelShape,
    Selection,
    SelectionInputs,
    TokenPolicy,
    decoder_cut,
    every_token,
)
from saccade.policies.config import PolicyConfig
from saccade.proto.errors import PolicyError


@dataclass(frozen=True, kw_only=True)
class KeepAllConfig(PolicyConfig):
    """keep_all has no options."""


class KeepAll(TokenPolicy):
    """The identity as a policy: no signals, no carry, cut at the decoder's entry."""

    name: ClassVar[str] = "keep_all"
    options = KeepAllConfig

    def __init__(self, config: KeepAllConfig, shape: ModelShape) -> None:
        self.config = config
        self.cuts = decoder_cut(0)
        self._tokens = shape.grid.tokens

    def schedule(self, keep: int) -> tuple[int, ...]:
        """Return all tokens.

        Raises:
            PolicyError: ``keep`` is not the number of visual tokens.
        """
        if keep != self._tokens:
            raise PolicyError(
                f"policy 'keep_all' keeps all {self._tokens} visual tokens, found keep {keep}; "
                "export it with --keep 1.0 only, or choose a policy that selects"
            )
        return (keep,)

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return 0..tokens-1."""
        del carry
        self.schedule(keep)
        return every_token(inputs)
