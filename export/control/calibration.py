"""Measure the unpruned model on recorded frames, for policies that decide something when their graph is built.

Signals that policies ask for by name are in :mod:`saccade.export.control.observed_signals`; here is the rest: the one
place where whole attention rows of every group are computed. It runs on the exporting machine only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from saccade.export.control.observed_signals import observe_signals
from saccade.export.families.autoregressive import AutoregressiveModel
from saccade.export.families.base import ActingFamily, SinglePassFamily, StepKind
from saccade.export.families.sequence import TEXT, VISUAL, SequenceLayout
from saccade.export.models.attention_rows import attention_by_row
from saccade.export.models.decoder import AttentionOutput, Decoder
from saccade.export.steps.policy_checks import model_shape
from saccade.policies.base import TokenPolicy
from saccade.policies.measurements import Measurements
from saccade.policies.registry import build_policy
from saccade.proto.errors import ExportError

Measure: TypeAlias = Callable[[Any, Sequence[tuple[Tensor, ...]]], Measurements]
"""A function from family and frames to what policies are calibrated with."""


class Calibrated(NamedTuple):
    """A policy, and what calibration decided of it.

    Args:
        policy: Policy with every option decided.
        decided: Options that calibration decided; empty if it was not asked.
    """

    policy: TokenPolicy
    decided: Mapping[str, object]


class PolicyBuilder:
    """Builds policies for one model, and calibrates those that ask for it; the model is measured once, if at all.

    Args:
        family: Model that is measured, in eval mode.
        frames: Host inputs of the frames that calibration looks at, in the order of the family's ``host_inputs``.

    Attributes:
        measured: Measurements that policies were calibrated with; None = none asked for it.
    """

    def __init__(self, family: ActingFamily, frames: Sequence[tuple[Tensor, ...]]) -> None:
        self.shape = model_shape(family)
        self._measure = _MEASURES.get(family.step_kind)
        self.measured: Measurements | None = None
        self._family, self._frames = family, frames

    def build(self, name: str, options: Mapping[str, object]) -> Calibrated:
        """Build a policy, calibrated if it asks for that.

        Raises:
            PolicyError: The policy does not take the options.
            ExportError: The policy wants to be calibrated, and nothing measures this family.
        """
        policy = build_policy(name, options, self.shape)
        if not policy.needs_calibration:
            return Calibrated(policy, {})
        self.measured = self._measured_for(policy)
        decided = policy.calibrate(self.measured)
        return Calibrated(build_policy(name, {**policy.config.as_dict(), **decided}, self.shape), decided)

    def _measured_for(self, policy: TokenPolicy) -> Measurements:
        """Return what is measured already, and what the policy asks for besides."""
        known = self.measured or Measurements()
        if asked := policy.calibration_signals:
            missing = tuple(signal for signal in asked if str(signal) not in known.signals)
            if not missing:
                return known
            found = observe_signals(self._family, self._frames, missing)
            return replace(known, signals={**known.signals, **found})
        if known.head_outputs:
            return known
        if self._measure is None:
            raise ExportError(
                f"policy {policy.name!r}: expected options that need no calibration, found {policy.config.as_dict()}; "
                "nothing measures this family yet."
            )
        return replace(self._measure(self._family, self._frames), signals=known.signals)


class _Entry(NamedTuple):
    """What enters the decoder: hidden states, mask, positions, and the order that causal attention compares."""

    hidden: Tensor
    mask: Tensor
    positions: Tensor
    order: Tensor | None = None


def measure(family: SinglePassFamily, frames: Sequence[tuple[Tensor, ...]]) -> Measurements:
    """Run the unpruned model of a single-pass family, and measure its attention.

    Args:
        family: Model that is measured, in eval mode.
        frames: Host inputs of each frame, batch 1: images, proprio, token_ids, attention_mask, position_ids.

    Returns:
        Shares for each frame and layer; head outputs as the mean over all frames.
    """

    def enter(frame: tuple[Tensor, ...]) -> _Entry:
        images, proprio, token_ids, mask, positions = frame
        return _Entry(family.embed_observation(images, proprio, token_ids), mask, positions)

    return _measure(family, map(enter, frames))


def measure_prompts(family: AutoregressiveModel, frames: Sequence[tuple[Tensor, ...]]) -> Measurements:
    """Run the unpruned model of an autoregressive family on prompts: its one action row is the last of the prompt.

    Args:
        family: Model that is measured, in eval mode.
        frames: Host inputs of each frame, batch 1: images, token_ids, attention_mask.

    Returns:
        Shares for each frame and layer; head outputs as the mean over all frames.
    """

    def enter(frame: tuple[Tensor, ...]) -> _Entry:
        images, token_ids, mask = frame
        hidden = family.embed(family.embed_visual(family.visual_tokens(images)), token_ids)
        lengths = family.layout.take(mask, TEXT).sum(dim=1)
        return _Entry(hidden, *family.sequence_inputs(lengths))

    return _measure(family, map(enter, frames))


_MEASURES: Mapping[StepKind, Measure] = {
    StepKind.SINGLE_PASS: measure,
    StepKind.AUTOREGRESSIVE: measure_prompts,
}
"""How each kind of family is measured; where there is none, nothing measures it yet."""


def _measure(family: ActingFamily, entries: Iterable[_Entry]) -> Measurements:
    shares: list[list[tuple[float, float, float]]] = []
    heads: list[Tensor] = []
    with torch.inference_mode():
        for entry in entries:
            mask, bias = entry.mask, family.decoder.attention_bias(entry.mask, entry.order, entry.order)
            outputs = _run(family.decoder, entry, bias)
            shares.append([_shares(output, family.layout, mask, bias) for output in outputs])
            heads.append(torch.stack([_head_outputs(output, mask) for output in outputs]))

    def table(group: int) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(layer[group] for layer in frame_shares) for frame_shares in shares)

    mean_heads = torch.stack(heads).mean(dim=0).tolist()
    return Measurements(
        text_to_visual=table(0),
        visual_to_text=table(1),
        action_to_visual=table(2),
        head_outputs=tuple(tuple(layer) for layer in mean_heads),
    )


def _run(decoder: Decoder, entry: _Entry, bias: Tensor) -> list[AttentionOutput]:
    """Return what self-attention gave in each layer."""
    hidden, rotary, outputs = entry.hidden, decoder.rotary(entry.positions), []
    for layer in decoder.layers:
        output = layer(hidden, rotary, bias)
        outputs.append(output.attention)
        hidden = output.hidden
    return outputs


def _shares(
    output: AttentionOutput, layout: SequenceLayout, mask: Tensor, bias: Tensor
) -> tuple[float, float, float]:
    """Shares of attention: text to visual, visual to text, action to visual."""
    weights = attention_by_row(output.query, output.key, bias)
    valid = mask.float()
    text, visual = layout.span(TEXT), layout.span(VISUAL)
    action = layout.answer_states(weights, mask)
    return (
        _share(weights[:, text], valid[:, text], visual),
        _share(weights[:, visual], valid[:, visual], text),
        _share(action, torch.ones(action.shape[:2]), visual),
    )


def _share(rows: Tensor, valid: Tensor, columns: slice) -> float:
    """Attention of the valid rows ``(batch, rows, keys)`` that goes to some columns, over all of it."""
    weighted = rows * valid.unsqueeze(-1)
    return float(weighted[:, :, columns].sum() / weighted.sum())


def _head_outputs(output: AttentionOutput, mask: Tensor) -> Tensor:
    """Mean absolute output of each head over valid tokens and channels, float32 ``(heads,)``."""
    valid = mask[:, None, :, None].float()
    total = (output.heads.float().abs() * valid).sum(dim=(0, 2, 3))
    return total / (valid.sum() * output.heads.shape[-1])
