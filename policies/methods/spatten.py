"""spatten: cascades. Tokens that no row attends to are gone for good, and so are heads that contribute little.

Paper: "SpAtten" (2012.09852, HPCA 2021); code mit-han-lab/spatten, read at a0f1388.

*Cascade token pruning*, at several cuts. The importance of a token is the attention probability that it received, from
every row and head, in every layer that has run::

    importance(j) = sum over layers l so far, heads h and rows i of A[l, h, i, j]

*Cascade head pruning*. The importance of a head is the magnitude of its output, summed over the layers so far; a head
removed in one layer is missing in all later ones. Which heads go is settled when the graph is built, from measured
magnitudes: :func:`heads_to_remove`. A head that is chosen for each input would need gathers of activations and weights.

What is confirmed, and what is our reading:

- The formulas are the paper's, from second-hand accounts; the released code for language models (the policy
  ``spatten_kv``) evicts entries of a cache and has neither cascade.
- Sums favour tokens that more rows can see, in a causal decoder the early ones. Each column is divided by the number of
  rows that see it: in place of the paper's sum over rows, a mean. Over heads it is a mean too, so that layers with
  fewer heads weigh as much as the others.
- The paper prunes after every layer but the first ones, by ratios that are tuned for each task. Each cut costs a top-k
  and gathers, so there are a few cuts here, four by default, over the layers behind the first 15 %; each leaves
  the same fraction of what is alive there.
- Heads: the first 30 % of the layers keep all of them, then their number falls along a line to what ``share`` asks for
  in the last layer. The 15 % and the 30 % are from memory of the paper.
- Only visual tokens are dropped; the paper drops text tokens too.
- Local value pruning and progressive quantisation need hardware that computes with parts of a tensor; they are not
  here.
- Original positions are kept.
- Attention of all rows is computed beside the fused attention in every layer before the last cut: this is the most
  expensive of the decoder policies to observe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

from saccade.policies.base import (
    Carry,
    Cut,
    ModelShape,
    Place,
    Selection,
    SelectionInputs,
    TokenPolicy,
)
from saccade.policies.blocks.selection import keep_top_k
from saccade.policies.config import PolicyConfig, require
from saccade.policies.measurements import Measurements
from saccade.policies.signals import AttentionReceived, QueryRows
from saccade.proto.errors import PolicyError

CUTS = 4
WHOLE_FOR_TOKENS, WHOLE_FOR_HEADS = 0.15, 0.3
"""First part of the decoder that keeps every token, and every head."""
IMPORTANCE = "importance"
"""Name of the note that goes with each token: attention received, summed over the layers so far."""

Heads = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class SpAttenConfig(PolicyConfig):
    """Options of spatten.

    Args:
        cut_layers: First decoder layer behind each cut. None = four cuts, or as many as fit, evenly over the layers
            behind the first 15 %.
        removed_heads: Query heads that are removed from each decoder layer; each lacks at least what the one before
            lacks. None = none, or what calibration finds for ``head_share``.
        head_share: Share of the heads that the last layer lacks, found by calibration unless ``removed_heads`` says it.
        head_group: How many query heads share a key-value head: they are removed together.
    """

    cut_layers: tuple[int, ...] | None = None
    removed_heads: tuple[tuple[int, ...], ...] | None = None
    head_share: float = 0.0
    head_group: int = 1

    def __post_init__(self) -> None:
        require(0.0 <= self.head_share < 1.0, "head_share", "at least 0 and below 1", self.head_share)
        require(self.head_group >= 1, "head_group", "at least 1", self.head_group)


class SpAtten(TokenPolicy):
    """Accumulated attention from all rows, at several cuts; heads removed when the graph is built."""

    name: ClassVar[str] = "spatten"
    options = SpAttenConfig

    def __init__(self, config: SpAttenConfig, shape: ModelShape) -> None:
        layers = _default_cuts(shape.layers) if config.cut_layers is None else config.cut_layers
        good = (
            bool(layers)
            and list(layers) == sorted(set(layers))
            and layers[0] >= 1
            and layers[-1] < shape.layers
        )
        expected = (
            f"one or more rising numbers in 1..{shape.layers - 1} for a decoder of {shape.layers} layers"
        )
        require(good, "cut_layers", expected, layers)
        heads = config.removed_heads
        self.needs_calibration = heads is None and config.head_share > 0.0
        if heads is None and not self.needs_calibration:
            heads = ((),) * shape.layers
        self.removed_heads: Mapping[int, tuple[int, ...]] = _checked_heads(heads or (), shape.layers)
        self.config: SpAttenConfig = replace(config, cut_layers=layers, removed_heads=heads)
        self.cuts = tuple(
            Cut(Place.DECODER, end, (AttentionReceived(QueryRows.ALL, tuple(range(start, end))),))
            for start, end in zip((0, *layers), layers, strict=False)
        )
        self._tokens = shape.grid.tokens

    def schedule(self, keep: int) -> tuple[int, ...]:
        """Return the survivors of each cut: the same fraction each time, and ``keep`` in the end."""
        cuts, alive = len(self.cuts), self._tokens
        part = max(1, keep) / alive
        return (*(max(keep, round(alive * part ** (cut / cuts))) for cut in range(1, cuts)), keep)

    def calibrate(self, measured: Measurements) -> Mapping[str, object]:
        """Return the heads to remove, where a share was asked for and no heads were given."""
        if not self.needs_calibration:
            return {}
        share, group = self.config.head_share, self.config.head_group
        return {"removed_heads": heads_to_remove(measured.head_outputs, share, group)}

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return the ``keep`` tokens that received most attention so far."""
        del carry
        (received,) = inputs.signals
        (request,) = self.cuts[inputs.cut].signals
        assert isinstance(request, AttentionReceived)  # noqa: S101 - built above
        importance = received * len(request.layers)  # the signal is a mean over layers
        if IMPORTANCE in inputs.memo:
            importance = inputs.memo[IMPORTANCE] + importance
        return Selection(keep_top_k(importance, keep), memo={IMPORTANCE: importance})


def heads_to_remove(importance: Sequence[Sequence[float]], share: float, group: int = 1) -> Heads:
    """Return which heads each layer lacks, from what heads gave in a run with all of them.

    A layer's heads are judged by their importance summed over the layers before it. The first 30 % of the layers, and
    in any case the first one, keep all of them; then the number of removed heads rises along a line to ``share`` of
    them in the last layer. What is removed stays removed; the least important goes first, of equal ones the one with
    the highest index; one head, or one group, always stays.

    Args:
        importance: Sum, or mean, of the absolute values that each head of each layer gave.
        share: Share of the heads that the last layer lacks, in 0..1.
        group: How many neighbouring heads can only go together.

    Raises:
        PolicyError: A table with rows of different lengths or values that are negative or not finite, heads that do
            not divide into groups, or a share out of range.
    """
    heads = len(importance[0]) if importance else 0
    flat = [value for layer in importance for value in layer]
    if (
        not heads
        or any(len(layer) != heads for layer in importance)
        or not all(0.0 <= v < math.inf for v in flat)
    ):
        raise PolicyError(
            "expected the importance of each head in each layer, finite and not negative, equally many heads in all "
            f"layers, found {[list(layer) for layer in importance]}"
        )
    if group < 1 or heads % group or not 0.0 <= share <= 1.0:
        raise PolicyError(
            f"expected a share in 0..1 and groups that divide {heads} heads, found {share} and groups of {group}"
        )
    layers, groups = len(importance), heads // group
    whole = max(1, round(WHOLE_FOR_HEADS * layers))
    total = [0.0] * groups
    removed: list[int] = []
    result: list[tuple[int, ...]] = []
    for layer, row in enumerate(importance):
        ramp = max(0, layer - whole + 1) / max(1, layers - whole)
        wanted = min(round(share * groups * ramp), groups - 1)
        left = sorted(set(range(groups)) - set(removed), key=lambda index: (total[index], -index))
        removed += left[: max(0, wanted - len(removed))]
        result.append(tuple(sorted(index * group + head for index in removed for head in range(group))))
        for index in range(groups):
            total[index] += sum(row[index * group : (index + 1) * group])
    return tuple(result)


def _default_cuts(layers: int) -> tuple[int, ...]:
    """Four cuts, or as many as fit, evenly from the first layers' end to the decoder's."""
    first = max(1, round(WHOLE_FOR_TOKENS * layers))
    return tuple(
        sorted({first + cut * (layers - first) // CUTS for cut in range(CUTS)} & set(range(1, layers)))
    )


def _checked_heads(removed: Heads, layers: int) -> Mapping[int, tuple[int, ...]]:
    """Return the layers that lack heads; checks that it is a cascade."""
    good = len(removed) in (0, layers) and all(head >= 0 for heads in removed for head in heads)
    good = good and all(len(set(heads)) == len(heads) for heads in removed)
    cascade = all(set(before) <= set(after) for before, after in pairwise(removed))
    expected = f"the heads each of {layers} layers lacks, at least those that the layer before lacks"
    require(good and cascade, "removed_heads", expected, removed)
    return {layer: heads for layer, heads in enumerate(removed) if heads}
