"""foveate: encode the patches that moved or matter, take the others as they were; then drop tokens as VLA-Pruner does.

Ours; no paper has it. What the arm will attend to is known before a picture is encoded: what actions and instruction
attended to in the last control steps, and what changed in the pixels since. So the vision towers compute a fixed share
of each view's patches, and take keys, values and features of the others from the control step in which these were last
encoded. Every block attends to all patches, so that nothing is missing behind the tower, but some of it is older.

1. *Score* of a patch: how much its pixels changed since it was last encoded (mean over the view = 1), plus the
   smoothed attention of action and text rows (mean over all tokens = 1, times ``attention_weight``), plus a little age.
2. *Refresh*: of the k patches of a view, ``ceil(patches / max_age)`` are the oldest, whatever their score; among
   equally old ones the best. While a patch is left out, so many that are no younger are encoded in every step, and are
   younger from then on; so all have had their turn within ``max_age`` steps. The rest of the k are the best scores.
3. *Whole refresh*: the first control step after a reset, every ``refresh_every`` steps, and when a view suddenly shows
   another picture (``camera_cut``), which the host notices.
4. *Decoder*: VLA-Pruner's choice in one pass, before layer K: the union of the best by the attention of all rows before
   the actions and by that of the action rows, in layer K-1, thinned by diversity, each view for itself. Where action
   rows come after the pass (OpenVLA, pi0), the text rows and the smoothed attention take their places. With
   ``insertion_layer=0`` tokens are ranked before any layer, over all views, by smoothed attention and change.

Both budgets are fixed, so the graph is static: ``encode`` is a share of the patches of a view, and the profile's budget
that of the tokens that survive in the decoder. With ``encode=1`` every patch is encoded.

What is older than this step is told, patch by patch, in the telemetry's ``encoded_ages``. ``choose`` other than
``both`` is an ablation: ``change`` or ``attention`` alone, ``random`` scores, or the ``oldest`` patches in turn, which
looks at nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from saccade.policies.base import (
    Behind,
    CameraCut,
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
from saccade.policies.blocks.budgets import choose_per_view
from saccade.policies.blocks.patches import patch_change
from saccade.policies.blocks.relevance import union_thinned
from saccade.policies.blocks.selection import as_share, keep_top_k, top_k_mask
from saccade.policies.blocks.smoothing import visual_distribution
from saccade.policies.config import PolicyConfig, require, resolve_insertion_layer, tunable
from saccade.policies.signals import AttentionReceived, EncodedAge, Pixels, QueryRows, Signal

PATCHES, ATTENTION, STEP = "carry.encoded_patches", "carry.smoothed_attention", "carry.random_step"
TABLE_STEPS = 64
"""Control steps before the sequence of random scores repeats."""
PUBLISHED_LAYER = 4
"""Layer of 32 before which VLA-Pruner cuts in one pass."""
SMALLEST_CHANGE = 1e-6
"""Levels: floor of a divisor, so that a still picture has no change anywhere."""


@dataclass(frozen=True, kw_only=True)
class FoveateConfig(PolicyConfig):
    """Options of foveate.

    Args:
        encode: Share of the patches of each view that are encoded in a control step.
        max_age: Control steps within which every patch is encoded again.
        choose: What patches are chosen by: ``both`` change and attention, or an ablation, see the module's docstring.
        attention_weight: Weight of the smoothed attention beside that of the change, 1.
        age_weight: Weight of each control step since a patch was encoded.
        noise: Change of a pixel that is noise of the camera, levels of 255; change counts from there.
        smoothing: Share of the smoothed attention that stays from one control step to the next.
        text: Share of the text rows in the attention that is smoothed; the rest is the action rows'.
        attention_layers: Where the rows are read that are smoothed: ``last_full``, the layer before the cut, where
            every token is present; or the ``latter_half`` of the decoder. None = ``last_full`` where actions come from
            one pass and there is such a layer.
        insertion_layer: K, the first decoder layer that sees only the kept tokens; 0 = the entry. None = 4 of 32,
            scaled, at least 1.
        refresh_every: Every n-th control step encodes and keeps everything; 0 = never.
        camera_cut: Share of a view's pixels with other colours than in the last control step from which everything is
            encoded and kept; 0 = whatever the view shows.
    """

    encode: float = 0.5
    max_age: int = 16
    choose: Literal["both", "change", "attention", "oldest", "random"] = "both"
    attention_weight: float = tunable(0.25, 0.0, 2.0)
    age_weight: float = tunable(0.02, 0.0, 0.2)
    noise: float = tunable(0.0, 0.0, 8.0)
    smoothing: float = tunable(0.5, 0.0, 0.9)
    text: float = tunable(0.3, 0.0, 1.0)
    attention_layers: Literal["last_full", "latter_half"] | None = None
    insertion_layer: int | None = None
    refresh_every: int = 0
    camera_cut: float = 0.3

    def __post_init__(self) -> None:
        require(0.0 < self.encode <= 1.0, "encode", "above 0 and at most 1", self.encode)
        require(self.max_age >= 1, "max_age", "1 or more", self.max_age)
        for name in ("attention_weight", "age_weight", "noise"):
            value = getattr(self, name)
            require(0.0 <= value < float("inf"), name, "0 or more, and finite", value)
        require(0.0 <= self.smoothing < 1.0, "smoothing", "in 0..1, below 1", self.smoothing)
        require(0.0 <= self.text <= 1.0, "text", "in 0..1", self.text)
        require(self.refresh_every >= 0, "refresh_every", "0 (never) or more", self.refresh_every)
        require(0.0 <= self.camera_cut <= 1.0, "camera_cut", "in 0..1", self.camera_cut)


class Foveate(TokenPolicy):
    """Choice of the patches to encode, and of the tokens that the decoder keeps; the module docstring has the rules."""

    name: ClassVar[str] = "foveate"
    options = FoveateConfig

    def __init__(self, config: FoveateConfig, shape: ModelShape) -> None:
        self.config: FoveateConfig = _resolved(config, shape)
        layer, self._views = self.config.insertion_layer, shape.grid.views
        assert layer is not None  # noqa: S101 - resolved
        patches = shape.grid.per_view
        self._encoded = max(1, round(config.encode * patches))
        self._due = -(-patches // config.max_age)
        least = -(-patches // self._encoded)
        require(
            config.max_age >= least,
            "max_age",
            f"{least} or more where {self._encoded} of {patches} patches are encoded in a control step, so that all "
            "have their turn",
            config.max_age,
        )
        self._in_one_pass = shape.acts_in_one_pass and layer > 0
        first = Cut(Place.TOWER, 0, (Pixels(), EncodedAge()), behind=Behind.LAST_STEP)
        self.cuts = (first, Cut(Place.DECODER, layer, self._decoder_signals(layer)))
        self.update_signals = (*self._smoothed_rows(layer, shape.layers), Pixels())
        self.warmup_steps = 1
        self.refresh_every = config.refresh_every
        self.camera_cut = CameraCut(config.camera_cut) if config.camera_cut > 0 else None
        self._values = shape.patch_values
        generator = torch.Generator().manual_seed(0)
        self._table = torch.rand(TABLE_STEPS, shape.grid.tokens, generator=generator)

    def schedule(self, keep: int) -> tuple[int, ...]:
        """Return how many patches are encoded, whatever the budget, and how many tokens survive in the decoder."""
        return self._encoded * self._views, keep

    def carry_specs(self, grid: Grid) -> tuple[CarrySpec, ...]:
        """Return the patches as they were encoded, ``(batch, tokens, values)``, and the smoothed attention.

        The latter is ``(batch, tokens)``; for random scores, a step counter ``(batch,)`` besides.
        """
        patches = (1, grid.tokens, self._values)
        specs = (
            CarrySpec(PATCHES, patches, "float32", initial=0.0, dims=("batch", "tokens", "values")),
            CarrySpec(ATTENTION, (1, grid.tokens), "float32", initial=0.0, dims=("batch", "tokens")),
        )
        if self.config.choose != "random":
            return specs
        return (*specs, CarrySpec(STEP, (1,), "int64", initial=0.0, dims=("batch",)))

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return the patches of each view that are encoded, or the tokens that survive in the decoder."""
        if inputs.cut == 0:
            return Selection(self._encoded_patches(inputs, carry, keep))
        if self.config.insertion_layer == 0:
            change = as_share(patch_change(inputs.signals[0], carry[PATCHES]))
            return Selection(keep_top_k(as_share(carry[ATTENTION]) + 0.5 * change, keep))
        semantic = inputs.signals[0]
        action = inputs.signals[1] if self._in_one_pass else carry[ATTENTION]
        scored = (semantic, action, inputs.embeddings)
        return Selection(choose_per_view(union_thinned, scored, inputs.grid, keep))

    def update(self, inputs: UpdateInputs, carry: Carry) -> Carry:
        """Remember the patches that were encoded, and smooth this step's attention."""
        action, text, patches = inputs.signals
        seen = (1.0 - self.config.text) * action + self.config.text * text
        before = carry[ATTENTION]
        row = visual_distribution(seen, inputs.present, before)
        smoothed = self.config.smoothing * before + (1.0 - self.config.smoothing) * row
        encoded = patches.abs() < torch.inf
        if inputs.encoded is not None:
            marks = torch.zeros_like(seen).scatter(1, inputs.encoded, 1.0) > 0
            encoded = encoded & marks.unsqueeze(-1)
        following = {
            PATCHES: torch.where(encoded, patches, carry[PATCHES]),
            ATTENTION: torch.where(before.sum(dim=1, keepdim=True) > 0, smoothed, row),
        }
        if self.config.choose == "random":
            following[STEP] = (carry[STEP] + 1) % TABLE_STEPS
        return following

    def _decoder_signals(self, layer: int) -> tuple[Signal, ...]:
        if layer == 0:
            return (Pixels(),)
        last_full = (layer - 1,)
        if not self._in_one_pass:
            return (AttentionReceived(QueryRows.TEXT, last_full),)
        rows = (QueryRows.BEFORE_ACTION, QueryRows.ACTION)
        return tuple(AttentionReceived(own, last_full) for own in rows)

    def _smoothed_rows(self, layer: int, layers: int) -> tuple[Signal, ...]:
        """Action rows and text rows, from layers between the same two cuts."""
        if self.config.attention_layers == "last_full":
            where: tuple[int, ...] = (layer - 1,)
        else:
            where = tuple(range(max(layers // 2, layer), layers))
        # Of the last layer only action rows are computed, unless somebody asks for more.
        text = where[:-1] if len(where) > 1 and where[-1] == layers - 1 else where
        return AttentionReceived(QueryRows.ACTION, where), AttentionReceived(QueryRows.TEXT, text)

    def _encoded_patches(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Tensor:
        """Return the ``keep`` patches of each view that are encoded, int64 ``(batch * views, keep)``, ascending."""
        patches, age = inputs.signals
        score = self._score(patches, age, carry)
        value = score / (1.0 + score)  # below 1: an age counts for more
        due = top_k_mask(age + value, self._due)
        return keep_top_k(torch.where(due, 1.0 + value, value), keep)

    def _score(self, patches: Tensor, age: Tensor, carry: Carry) -> Tensor:
        """Return what speaks for each patch, ``(batch * views, patches)``, 0 or more."""
        if self.config.choose == "oldest":
            return torch.zeros_like(age)
        if self.config.choose == "random":
            return self._table.to(age.device)[carry[STEP]].reshape(age.shape)
        score = self.config.age_weight * age
        if self.config.choose != "attention":
            before = carry[PATCHES].reshape(patches.shape)
            change = (patch_change(patches, before) - self.config.noise).clamp(min=0.0)
            score = score + change / change.mean(dim=1, keepdim=True).clamp(min=SMALLEST_CHANGE)
        if self.config.choose != "change":
            attention = as_share(carry[ATTENTION])
            weight = self.config.attention_weight * attention.shape[1]
            score = score + weight * attention.reshape(age.shape)
        return score


def _resolved(config: FoveateConfig, shape: ModelShape) -> FoveateConfig:
    """Fill in what follows from the model."""
    layer = config.insertion_layer
    if layer != 0:
        layer = resolve_insertion_layer(layer, shape.layers, PUBLISHED_LAYER)
    can_read = shape.acts_in_one_pass and layer > 0
    default: Literal["last_full", "latter_half"] = "last_full" if can_read else "latter_half"
    where = config.attention_layers or default
    require(
        where == "latter_half" or can_read,
        "attention_layers",
        "'latter_half', or null, where no full layer has action rows",
        where,
    )
    return replace(config, insertion_layer=layer, attention_layers=where)
