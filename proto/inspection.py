"""What ``saccade inspect`` finds out about a checkpoint or a bundle: data that two programs share, no display."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from saccade.proto.roofline import Part

INSPECTORS = "saccade.inspectors"
"""Entry points of what can look at more than bundles: ``checkpoint`` is a function ``(Path, InspectionRequest) ->
Inspection`` of the build machine."""


@dataclass(frozen=True, kw_only=True)
class InspectionRequest:
    """What a checkpoint leaves open and a deployment fixes; None = what is usual for the family.

    Args:
        keep_ratios: Shares of the visual tokens whose costs are worked out.
        policy: Registry name of the policy whose cuts count; None = a cut at the decoder's entry.
        views: How many cameras, or pictures of one question.
        frames: How many frames of one video; 0 = still pictures.
        image_size: Height and width of the pictures as they come, pixels.
        text_tokens: Room for the instruction or question, in tokens.
        new_tokens: Length of an answer, in tokens.
        data_set: Name of the data set whose statistics are used.
        reads_weights: Whether to compare the names and shapes in the weight files with the configuration.
        tokenizer: A ``tokenizer.json``, or a folder with one; None = the checkpoint's own.
        head_step: Training step of the heads, where the checkpoint has several; None = the only one.
    """

    keep_ratios: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125)
    policy: str | None = None
    views: int | None = None
    frames: int = 0
    image_size: tuple[int, int] | None = None
    text_tokens: int | None = None
    new_tokens: int | None = None
    data_set: str | None = None
    reads_weights: bool = True
    tokenizer: Path | None = None
    head_step: str | None = None


@dataclass(frozen=True)
class Budget:
    """What a model costs at one budget of visual tokens.

    Args:
        name: Name of the profile: ``full``, ``keep25`` ...
        keep: How many visual tokens survive the last cut.
        keep_ratio: Budget as a share of all visual tokens, above 0 to 1.
        parts: Parts of the model that run, in order.
        visual_by_layer: How many visual tokens each decoder layer sees; empty = not known.
    """

    name: str
    keep: int
    keep_ratio: float
    parts: tuple[Part, ...]
    visual_by_layer: tuple[int, ...] = ()


@dataclass(frozen=True)
class CutPlace:
    """A cut: a place in the model where a policy drops visual tokens.

    Args:
        place: Part of the model that is cut: ``tower``, ``projector`` or ``decoder``.
        index: Block or layer in front of which it is cut; None = not known, or there is but one.
    """

    place: str
    index: int | None = None


@dataclass(frozen=True)
class PolicyFit:
    """Whether a token-selection policy can make its cuts in a model, with its default options.

    Args:
        name: Name of the policy.
        fits: Whether it can.
        acts: Cuts of the policy, in order; none = it keeps every token.
        reason: Why it does not fit; empty where it does.
    """

    name: str
    fits: bool
    acts: tuple[CutPlace, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What is known of a model without running it.

    Args:
        kind: What was looked at: ``checkpoint`` or ``bundle``.
        name: Name of the checkpoint's folder, or the one in the bundle's manifest.
        family: Name of the model family.
        facts: What a person wants to know first: label to text.
        dimensions: Sizes for machines: part of the model to its numbers by name.
        visual_tokens: How many visual tokens one observation has, all views together.
        unit: What the budgets are the cost of, e.g. ``control step``.
        parameters: How many parameters each part of the model has, whether a pass reads them or not.
        budgets: Costs at each budget of visual tokens, largest first.
        policies: Whether each known policy fits, or the one that is compiled in.
        notes: What was assumed, and what is not known.
    """

    kind: str
    name: str
    family: str
    facts: Mapping[str, str]
    dimensions: Mapping[str, Mapping[str, int]]
    visual_tokens: int
    unit: str
    parameters: Mapping[str, int]
    budgets: tuple[Budget, ...]
    policies: tuple[PolicyFit, ...] = ()
    notes: tuple[str, ...] = ()
