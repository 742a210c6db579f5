"""vla_pruner: keep what the instruction attends to *and* what actions attend to, without duplicates.

Paper: "VLA-Pruner" (arXiv 2511.16449); code MINT-SJTU/VLA-Pruner, read at fa5bfed (OpenVLA) and 3d156ee (OpenVLA-OFT).
Training-free.

One drop of visual tokens in front of decoder layer K, in four moves (M visual tokens, k survive):

1. *Semantic score*: attention that each token receives in layer K-1 of this control step.
2. *Action score*: attention that each token received from the action queries, smoothed over the last w control steps:
   ``sum_{i=1..w} g^i row(t-i) / sum g^i``.
3. *Relevance*: the union C of the two top-k sets, so k <= |C| <= 2k.
4. *Redundancy*: max-min diversity on the decoder's input embeddings thins C to exactly k. Order and positions of
   the survivors stay the original ones.

Two forms, each a set of defaults:

- ``single_pass``, where the action rows are in the pass from its first layer on (OpenVLA-OFT): no full control step is
  needed. Action rows are read in layer K-1, where every token is present; until there are w steps of them, this
  step's serve. Semantic rows are all rows before the action tokens, each view has a budget of its own, and K is 4 of
  32, since the code reads layer 3 and drops behind it.
- ``across_steps`` elsewhere (OpenVLA, π0): action rows exist only after tokens were dropped, so w full control steps
  come first. Action rows are read over the latter half of the layers (the paper; the OpenVLA code reads layer 15 of
  32 alone), semantic rows are the text's, there is one budget over all views, and K is 3 of 32.

Deviations from the paper, and from its code:

- The decay is newest-heaviest as in the paper; the code at fa5bfed has it reversed.
- The OFT code has a warm-up as well: with its history on, w full control steps come first, and the history is read in
  layer 15, behind the cut, with 0 for dropped tokens. What it does without a history, this step's rows in layer K-1, is
  what ``single_pass`` begins with, and its history is made of the same rows.
  ``warmup_steps=3, action_layers="latter_half", absent="zero"`` comes closest to that code.
- Action rows are those that actions are read from, the last of the prompt and all placeholders but the last; the OFT
  code takes the placeholders.
- ``across_steps``: semantic rows default to the *text* rows. The paper averages all rows, the OpenVLA code takes the
  last one; neither suits a bidirectional prefix. ``rows`` selects.
- A pruned token has no action attention behind the cut. Paper and code record 0, so a dropped token can return only
  through the semantic score and the choice reinforces itself. By default (``absent="presence"``) an absent token keeps
  its smoothed estimate instead: what was once attended to can return, but one whose estimate is low still needs the
  instruction to bring it back. ``absent="zero"`` is the paper. What opens the loop for all: ``refresh_every`` runs a
  full control step now and then, and action rows read before the cut miss no token.
- Other ``relevance`` values, ``history="frozen"`` and ``history="off"`` are ablations, not for use; ``off`` is the OFT
  code without its history.
- Each control step's row is normalised over visual tokens before it enters the history, so that pruned steps, which
  spread the softmax over fewer tokens, do not outweigh full ones.
- A budget for each view is an even share of k; the OFT code rounds each view's own.
- The redundancy filter compares rounded distances, see :mod:`saccade.policies.blocks.diversity`.
- ``exclude_sinks`` is not the paper's, see :mod:`saccade.policies.blocks.sinks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

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
from saccade.policies.blocks.budgets import choose_per_view
from saccade.policies.blocks.relevance import RELEVANCE
from saccade.policies.blocks.sinks import (
    SinksOption,
    check_sinks,
    sink_signals,
    sink_threshold,
    without_sinks,
)
from saccade.policies.blocks.smoothing import push, smoothed, visual_distribution
from saccade.policies.config import PolicyConfig, require, resolve_insertion_layer, tunable
from saccade.policies.measurements import Measurements
from saccade.policies.signals import AttentionReceived, QueryRows

HISTORY, AGE = "carry.action_history", "carry.history_age"
Form: TypeAlias = Literal["single_pass", "across_steps"]
PUBLISHED_LAYER: Mapping[Form, int] = {"single_pass": 4, "across_steps": 3}


@dataclass(frozen=True, kw_only=True)
class VlaPrunerConfig(PolicyConfig):
    """Options of vla_pruner; the defaults are the paper's where it states them. None = as the form has it.

    Args:
        form: ``single_pass`` or ``across_steps``, see the module's docstring. None = ``single_pass`` where actions come
            from one pass, unless ``action_layers`` asks for rows that miss tokens: ``latter_half``.
        insertion_layer: K, the first decoder layer that sees only the kept tokens. None = 4 or 3 for 32 layers, scaled
            to shallower decoders and at least 1.
        rows: Query rows of the semantic score: ``before_action`` (all of them but the action's), ``text`` (instruction
            tokens), ``last`` (one row, for causal decoders), ``all`` (each column is averaged over the rows that can
            see it).
        window: w, control steps in the history.
        decay: Factor gamma in (0, 1] by which a control step weighs less than the one after it.
        action_layers: Where action rows are read: ``last_full``, the layer before the cut; the latter half of the
            ``full`` layers before it; or the ``latter_half`` of the decoder, behind it.
        absent: What the history records for a pruned token: its smoothed estimate (``presence``) or 0 (``zero``).
        budget: Whether there is one budget over all views (``joint``) or an even share for each (``per_view``).
        warmup_steps: Full control steps after a reset. None = 0 in a single pass, w across steps.
        refresh_every: Every n-th control step runs with every token, so that no estimate grows stale; 0 = never.
        relevance: Which tokens are relevant: ``union``, both top-k sets, thinned by diversity (the paper). Its
            ablations: ``semantic`` or ``action`` alone, ``fused`` (top-k of the mean of both), ``unfiltered`` (the best
            ranks of the union).
        history: Whether the history goes on (``live``), stays as it is once it has w steps (``frozen``, an ablation),
            or is not kept, so that this step's action rows serve always (``off``, single pass alone, an ablation).
        exclude_sinks: Mean attention, over all rows of layer K-1, above which a column does not rank; ``auto``:
            calibration finds it; ``off``: every column ranks.
    """

    form: Form | None = None
    insertion_layer: int | None = None
    rows: Literal["before_action", "text", "last", "all"] | None = None
    window: int = tunable(3, 1, 8)
    decay: float = tunable(0.8, 0.1, 1.0)
    action_layers: Literal["last_full", "full", "latter_half"] | None = None
    absent: Literal["presence", "zero"] = "presence"
    budget: Literal["joint", "per_view"] | None = None
    warmup_steps: int | None = None
    refresh_every: int = 0
    relevance: Literal["union", "semantic", "action", "fused", "unfiltered"] = "union"
    history: Literal["live", "frozen", "off"] = "live"
    exclude_sinks: SinksOption = "off"

    def __post_init__(self) -> None:
        require(1 <= self.window <= 64, "window", "in 1..64", self.window)
        require(0.0 < self.decay <= 1.0, "decay", "above 0 and at most 1", self.decay)
        require(self.refresh_every >= 0, "refresh_every", "0 (never) or more", self.refresh_every)
        check_sinks(self.exclude_sinks)


class VlaPruner(TokenPolicy):
    """Dual-level token pruning of VLA-Pruner; the module docstring has the method and the deviations."""

    name: ClassVar[str] = "vla_pruner"
    options = VlaPrunerConfig

    def __init__(self, config: VlaPrunerConfig, shape: ModelShape) -> None:
        self.config: VlaPrunerConfig = _resolved(config, shape)
        cut, rows = self.config.insertion_layer, self.config.rows
        assert cut is not None and rows is not None  # noqa: S101 - resolved
        self._in_one_pass = self.config.form == "single_pass"
        last_full = (cut - 1,)
        # All behind the cut or all before it, so that `present` has one meaning.
        layers = {
            "last_full": last_full,
            "full": tuple(range(cut // 2, cut)),
            "latter_half": tuple(range(max(shape.layers // 2, cut), shape.layers)),
        }[self.config.action_layers or "last_full"]
        action = AttentionReceived(QueryRows.ACTION, layers)
        now = action if layers[-1] < cut else AttentionReceived(QueryRows.ACTION, last_full)
        self.update_signals = () if config.history == "off" else (action,)
        self.calibration_signals = (AttentionReceived(QueryRows.ALL, last_full),)
        self.needs_calibration = config.exclude_sinks == "auto"
        self.cuts = decoder_cut(
            cut,
            AttentionReceived(QueryRows(rows), last_full),
            *((now,) if self._in_one_pass else ()),
            *sink_signals(config.exclude_sinks, *self.calibration_signals),
        )
        self.warmup_steps = self.config.warmup_steps or 0
        self.refresh_every = config.refresh_every

    def carry_specs(self, grid: Grid) -> tuple[CarrySpec, ...]:
        """Return the history of action attention, float32 ``(batch, window, tokens)``, oldest control step first.

        With it, where that matters, how many steps of it there are, int64 ``(batch,)``.
        """
        if self.config.history == "off":
            return ()
        shape = (1, self.config.window, grid.tokens)
        history = CarrySpec(HISTORY, shape, "float32", initial=0.0, dims=("batch", "window", "tokens"))
        if not self._counts_steps:
            return (history,)
        return (history, CarrySpec(AGE, (1,), "int64", initial=0.0, dims=("batch",)))

    def calibrate(self, measured: Measurements) -> Mapping[str, object]:
        """Find the threshold of sinks."""
        return {"exclude_sinks": sink_threshold(measured.of(*self.calibration_signals))}

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return the ``keep`` tokens that matter to the instruction or to the action, without duplicates."""
        semantic, *others = inputs.signals
        sinks = self.config.exclude_sinks
        if self._in_one_pass:
            action, columns = self._action_score(others[0], carry), others[1:]
        else:
            action, columns = smoothed(carry[HISTORY], self.config.decay), others
        ranked = (without_sinks(score, columns, sinks) for score in (semantic, action))
        scored = (*ranked, inputs.embeddings)
        choose = RELEVANCE[self.config.relevance]
        if self.config.budget == "per_view":
            return Selection(choose_per_view(choose, scored, inputs.grid, keep))
        return Selection(choose(scored, keep))

    def update(self, inputs: UpdateInputs, carry: Carry) -> Carry:
        """Push this step's action attention, as a distribution over all visual tokens, into the history."""
        if self.config.history == "off":
            return {}
        (attention,) = inputs.signals
        history = carry[HISTORY]
        if self.config.absent == "presence":
            absent = smoothed(history, self.config.decay)
        else:
            absent = torch.zeros_like(attention)
        pushed = push(history, visual_distribution(attention, inputs.present, absent))
        if not self._counts_steps:
            return {HISTORY: pushed}
        if self.config.history == "frozen":
            pushed = torch.where(self._is_filled(carry), history, pushed)
        return {HISTORY: pushed, AGE: (carry[AGE] + 1).clamp(max=self.config.window)}

    @property
    def _counts_steps(self) -> bool:
        return self._in_one_pass or self.config.history == "frozen"

    def _is_filled(self, carry: Carry) -> Tensor:
        """Bool ``(batch, 1, 1)``: the history has w steps."""
        return (carry[AGE] >= self.config.window)[:, None, None]

    def _action_score(self, now: Tensor, carry: Carry) -> Tensor:
        """Return the smoothed history, or this step's rows as long as it is too short."""
        if self.config.history == "off":
            return now
        remembered = smoothed(carry[HISTORY], self.config.decay)
        return torch.where(self._is_filled(carry)[:, 0], remembered, now)


def _form_of(shape: ModelShape, action_layers: str | None) -> Form:
    """Return the form that suits a model, unless action rows are to be read where tokens are missing."""
    return "single_pass" if shape.acts_in_one_pass and action_layers != "latter_half" else "across_steps"


def _resolved(config: VlaPrunerConfig, shape: ModelShape) -> VlaPrunerConfig:
    """Fill in what follows from the form, and the form from the model."""
    form = config.form or _form_of(shape, config.action_layers)
    single = form == "single_pass"
    has_rows = shape.acts_in_one_pass or not single
    require(has_rows, "form", "'across_steps', or null, where action rows follow the pass that is cut", form)
    keeps_some = single or config.history != "off"
    require(keeps_some, "history", "'live' or 'frozen' in form 'across_steps'", config.history)
    warmup = config.warmup_steps
    if warmup is None:
        warmup = 0 if single else config.window
    least = 0 if single else 1
    require(warmup >= least, "warmup_steps", f"{least} or more in form {form!r}", warmup)
    return replace(
        config,
        form=form,
        insertion_layer=resolve_insertion_layer(config.insertion_layer, shape.layers, PUBLISHED_LAYER[form]),
        rows=config.rows or ("before_action" if single else "text"),
        action_layers=config.action_layers or ("last_full" if single else "latter_half"),
        budget=config.budget or ("per_view" if single else "joint"),
        warmup_steps=warmup,
    )
