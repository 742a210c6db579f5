"""vla_cache: compute only the tokens that changed or matter; the others keep the keys and values of an earlier step.

Paper: "VLA-Cache" (2502.02175, NeurIPS 2025); code siyuhsu/vla-cache, read at a490988. Opt-in, and for a reason: keys
and values of a patch that stands still are not themselves still, because attention mixes what moves into them. Others
measured falling success with reuse on flow models; the project's benchmark table has the figures of the bundled model.

Nothing is dropped: every layer attends to all visual tokens, fresh ones for the ``keep`` tokens that are computed in
this control step and remembered ones for the rest:

1. *Static* tokens: cosine of raw pixels with those it was last computed from at least ``similarity``.
2. *Task-relevant* tokens: the ``relevant`` share with most attention from the text rows of the last control step.
3. Computed are: first those not static, most changed first; then task-relevant ones, most attended first; then the
   least similar of what is left, as in the code, which reuses the most similar static tokens, so many and no more.

Deviations: the number computed is fixed (the paper's varies with the picture), so a still scene computes task-relevant
tokens and a wild one leaves the least changed behind. Those count as changed until they are computed: pixels are
compared with what keys and values were made of, which is the last control step's in the paper, where all that changed
is computed. One set for all layers (the paper's layer-wise reuse by attention
entropy needs a count for each layer). In telemetry a token that was not computed counts as dropped, although
later layers still see what it was. A full control step refreshes everything after a reset and every
``refresh_every`` steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from saccade.policies.base import (
    Behind,
    Carry,
    CarrySpec,
    Cut,
    Grid,
    ModelShape,
    Place,
    Selection,
    SelectionInputs,
    TokenPolicy,
    UpdateInputs,
)
from saccade.policies.blocks.patches import patch_similarity
from saccade.policies.blocks.selection import as_share, keep_top_k, top_k_mask
from saccade.policies.config import PolicyConfig, require
from saccade.policies.signals import AttentionReceived, Pixels, QueryRows

PATCHES, RELEVANCE = "carry.computed_patches", "carry.text_attention"


@dataclass(frozen=True, kw_only=True)
class VlaCacheConfig(PolicyConfig):
    """Options of vla_cache.

    Args:
        similarity: Cosine of raw pixels from which a patch counts as static.
        relevant: Share of the visual tokens that counts as task-relevant (the paper's 120 of 256).
        layer: Decoder layer whose text rows say what is relevant; None = 15 of 32, scaled.
        refresh_every: Every n-th control step computes every token; 0 = never.
    """

    similarity: float = 0.996
    relevant: float = 0.47
    layer: int | None = None
    refresh_every: int = 8

    def __post_init__(self) -> None:
        require(0.0 <= self.similarity <= 1.0, "similarity", "in 0..1", self.similarity)
        require(0.0 <= self.relevant <= 1.0, "relevant", "in 0..1", self.relevant)
        require(self.refresh_every >= 0, "refresh_every", "0 (never) or more", self.refresh_every)


class VlaCache(TokenPolicy):
    """Reuse of keys and values across control steps at a fixed number of computed tokens; see the module docstring."""

    name: ClassVar[str] = "vla_cache"
    options = VlaCacheConfig

    def __init__(self, config: VlaCacheConfig, shape: ModelShape) -> None:
        layer = min(round(15 * shape.layers / 32), shape.layers - 1) if config.layer is None else config.layer
        require(0 <= layer < shape.layers, "layer", f"in 0..{shape.layers - 1}", layer)
        self.config: VlaCacheConfig = replace(config, layer=layer)
        self.cuts = (Cut(Place.DECODER, 0, (Pixels(),), behind=Behind.LAST_STEP),)
        self.update_signals = (AttentionReceived(QueryRows.TEXT, (layer,)), Pixels())
        self.warmup_steps = 1
        self.refresh_every = config.refresh_every
        self._values = shape.patch_values

    def carry_specs(self, grid: Grid) -> tuple[CarrySpec, ...]:
        """Return the patches that tokens were computed from, ``(batch, tokens, values)``, and text attention.

        The latter is the last step's, ``(batch, tokens)``.
        """
        patches = (1, grid.tokens, self._values)
        return (
            CarrySpec(PATCHES, patches, "float32", initial=0.0, dims=("batch", "tokens", "values")),
            CarrySpec(RELEVANCE, (1, grid.tokens), "float32", initial=0.0, dims=("batch", "tokens")),
        )

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return the ``keep`` tokens that are computed in this control step."""
        (patches,) = inputs.signals
        similarity = patch_similarity(patches, carry[PATCHES])
        attention = as_share(carry[RELEVANCE])
        count = round(self.config.relevant * inputs.alive)
        # Three classes that cannot mix: changed 2..4, relevant 1..2, the rest up to 0.5.
        score = 0.5 * (1.0 - similarity)
        if count > 0:
            score = torch.where(top_k_mask(attention, count), 1.0 + attention, score)
        score = torch.where(similarity >= self.config.similarity, score, 3.0 - similarity)
        return Selection(keep_top_k(score, keep))

    def update(self, inputs: UpdateInputs, carry: Carry) -> Carry:
        """Remember the patches of the tokens that were computed, and this step's text attention."""
        attention, patches = inputs.signals
        computed = patches.abs() < torch.inf
        if inputs.kept is not None:
            marks = torch.zeros_like(attention).scatter(1, inputs.kept, 1.0) > 0
            computed = computed & marks.unsqueeze(-1)
        return {
            PATCHES: torch.where(computed, patches, carry[PATCHES]),
            RELEVANCE: torch.where(attention.abs() < torch.inf, attention, carry[RELEVANCE]),
        }
