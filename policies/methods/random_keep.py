"""random_keep: a seeded random choice. The floor that a selection method has to beat.

Randomness is baked in when the policy is built: a table of uniform scores, one row per control step, walked by a
step counter in the carry. So the graph is a pure function, and two runs with one seed keep the same tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

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
from saccade.policies.blocks.selection import keep_top_k
from saccade.policies.config import PolicyConfig, require, resolve_insertion_layer

TABLE_STEPS = 64
"""Control steps before the sequence of random choices repeats."""

STEP = "carry.random_step"


@dataclass(frozen=True, kw_only=True)
class RandomKeepConfig(PolicyConfig):
    """Options of random_keep.

    Args:
        seed: Seed of the table of random scores.
        insertion_layer: First decoder layer that sees only the kept tokens, 0 = the entry; None = the default of
            vla_pruner, so that both cost the same.
        warmup_steps: Full control steps after a reset; give vla_pruner's window for an even comparison.
        refresh_every: Every n-th control step runs with every token; 0 = never.
    """

    seed: int = 0
    insertion_layer: int | None = None
    warmup_steps: int = 0
    refresh_every: int = 0

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", "0 or more", self.seed)
        require(self.warmup_steps >= 0, "warmup_steps", "0 or more", self.warmup_steps)
        require(self.refresh_every >= 0, "refresh_every", "0 (never) or more", self.refresh_every)


class RandomKeep(TokenPolicy):
    """Keep the tokens with the highest of this step's random scores, over all views together."""

    name: ClassVar[str] = "random_keep"
    options = RandomKeepConfig

    def __init__(self, config: RandomKeepConfig, shape: ModelShape) -> None:
        layer = config.insertion_layer
        layer = 0 if layer == 0 else resolve_insertion_layer(layer, shape.layers)
        self.config = replace(config, insertion_layer=layer)
        self.cuts = decoder_cut(layer)
        self.warmup_steps = config.warmup_steps
        self.refresh_every = config.refresh_every
        generator = torch.Generator().manual_seed(config.seed)
        self._scores = torch.rand(TABLE_STEPS, shape.grid.tokens, generator=generator)

    def carry_specs(self, grid: Grid) -> tuple[CarrySpec, ...]:
        """Return the step counter, int64 ``(batch,)``."""
        del grid
        return (CarrySpec(STEP, shape=(1,), dtype="int64", initial=0.0, dims=("batch",)),)

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return the tokens with this step's ``keep`` highest random scores."""
        return Selection(keep_top_k(self._scores.to(inputs.embeddings.device)[carry[STEP]], keep))

    def update(self, inputs: UpdateInputs, carry: Carry) -> Carry:
        """Advance the step counter, wrapping at the end of the table."""
        del inputs
        return {STEP: (carry[STEP] + 1) % TABLE_STEPS}
