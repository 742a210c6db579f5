"""What ``saccade inspect`` finds out about a checkpoint or a bundle: data that two programs share, no display."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from saccade.proto.roofline import Part

INSPECTORS = "saccade.inspectors"
"""Entry points of what can look at more than bundles: ``checkpoint`` is a function ``(Path, InspectionRequest) ->
Inspection`` of the build machine."""


@dataclass(frozen=True, kw_only=True)
class InspectionRequest:
    """What a checkpoint leaves open and a deployment fixes; None = what is usual for the family.

    Args:
        keep_ratios: Shares of visual tokens to look at.
        policy: Registry name of the policy whose cuts count; None = a cut at the decoder's entry.
        views: Cameras, or pictures of one question.
        frames: Of a video; 0 = still pictures.
        image_size: Height and width of the pictures as they come, pixels.
        text_tokens: Room for the instruction or question.
        new_tokens: Length of an answer.
        data_set: Of the checkpoint's statistics.
        reads_weights: Compare the names and shapes in the weight files with the configuration.
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


@dataclass(frozen=True)
class Budget:
    """A model at one budget of visual tokens.

    Args:
        name: ``full``, ``keep25`` ...
        keep: Visual tokens that survive the last cut.
        keep_ratio: Their share.
        parts: What runs, in order.
        visual_by_layer: Visual tokens that each decoder layer sees; empty = not known.
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
        place: ``tower``, ``projector`` or ``decoder``.
        index: The block or layer in front of which it does; None = not known, or there is but one.
    """

    place: str
    index: int | None = None


@dataclass(frozen=True)
class PolicyFit:
    """Whether a token-selection policy can make its cuts in a model, with its default options.

    Args:
        name: Of the policy.
        fits: It can.
        acts: Its cuts, in order; none = it keeps every token.
        reason: Why it does not fit.
    """

    name: str
    fits: bool
    acts: tuple[CutPlace, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What is known of a model without running it.

    Args:
        kind: ``checkpoint`` or ``bundle``.
        name: Of its folder or its manifest.
        family: Model family.
        facts: What a person wants to know first, label to text.
        dimensions: The same for machines: part to its sizes.
        visual_tokens: Of one observation, all views.
        unit: What the budgets are the cost of, e.g. ``control step``.
        parameters: Part of the model to number of parameters, whether a pass reads them or not.
        budgets: Largest first.
        policies: Every known policy, or the one that is compiled in.
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
