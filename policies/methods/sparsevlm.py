"""sparsevlm: three cuts along the decoder, rated by the text tokens that look at the picture.

Paper: "SparseVLM" (2410.04417, ICML 2025); code Gumpest/SparseVLMs, read at 26a5f48.

- *Raters*, found once from decoder input embeddings x of visual and t of text tokens: the text tokens whose
  ``mean_i softmax_j(x_i . t_j)`` is above the mean.
- *Score* of a visual token at each cut: the mean over heads and raters of the attention that it received in the layer
  before the cut.
- *Cuts* before layers 2, 6 and 15 of 32. Of 576 tokens survive behind each: 300, 200 and 110 in the setting called 192,
  which is about the mean over layers (``budgets.layer_mean``); 303, 110 and 36 in 128; 238, 48 and 26 in 96; 66, 30
  and 17 in 64.
- *Recycling* (``recycle``): of the tokens that a cut drops, the best ``recycled`` share is clustered around density
  peaks, and the mean of each cluster survives.

Deviations and readings:

- The budget of a profile is what survives the last cut; merged tokens count in it (the code adds them on top). Between
  published budgets the survivors of earlier cuts are interpolated, towards all tokens above the largest and towards
  none below the smallest; the code knows its four settings alone. They are those of version 1; version 2 has 300, 200,
  118; 238, 108, 60; 246, 54, 28; 66, 34, 20.
- The code drops *behind* layers 2, 6 and 15, its comment counts layers as if in front; ``layers=[3, 7, 16]`` is the
  code. The paper derives how many tokens to drop from the rank of the attention matrix; its code has fixed counts.
- Original positions are kept, as in version 2; version 1 renumbers, and appends merged tokens. A merged token lives on
  at the place of its cluster's centre. What version 2 does beside that (attention divided by what rotary embedding
  alone would give, 14 chosen heads) needs attention head by head and is left out.
- Clusters are found on decoder input embeddings, as no hidden states are seen at a cut, and merged in hidden states;
  the code does both on hidden states. Its clusters: one for every 10 tokens of the pool and one more; members weigh
  the same. It breaks ties of density by noise, this by index.
- Attention that is not finite counts as 0; an instruction in which no text token stands out is rated by all of them.
- A decoder too shallow for three cuts makes the last ones of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from saccade.policies.base import (
    Carry,
    Cut,
    ModelShape,
    Place,
    Selection,
    SelectionInputs,
    TokenPolicy,
)
from saccade.policies.blocks.budgets import interpolated, nested_counts, scaled_layers
from saccade.policies.blocks.clustering import density_peaks
from saccade.policies.blocks.merging import NOWHERE, slots_of, weighted_means
from saccade.policies.blocks.raters import notes_of, rated, raters_in, text_raters
from saccade.policies.blocks.selection import (
    ascending,
    gather_tokens,
    indices_of,
    keep_top_k,
    top_k_mask,
)
from saccade.policies.config import PolicyConfig, require, tunable
from saccade.policies.signals import AttentionByRow

PUBLISHED_LAYERS = (2, 6, 15)
PUBLISHED_SURVIVORS = (
    (0, 0, 0),
    (66, 30, 17),
    (238, 48, 26),
    (303, 110, 36),
    (300, 200, 110),
    (576, 576, 576),
)
"""Survivors of each cut, of 576 tokens: the settings called 64, 96, 128 and 192, and what they must tend to."""


@dataclass(frozen=True, kw_only=True)
class SparseVlmConfig(PolicyConfig):
    """Options of sparsevlm.

    Args:
        layers: Decoder layers before which tokens are dropped, rising. None = 2, 6 and 15 of 32, scaled.
        dropped: For each cut the share, of all tokens that will be dropped, that is gone behind it; rises to 1.
            None = as published, interpolated at the budget.
        recycle: Merge the best of what a cut drops into a few tokens, inside the budget.
        recycled: Share of the dropped tokens that is clustered.
        cluster_size: Clustered tokens for each merged one.
    """

    layers: tuple[int, ...] | None = None
    dropped: tuple[float, ...] | None = None
    recycle: bool = False
    recycled: float = tunable(0.3, 0.1, 0.6)
    cluster_size: int = tunable(10, 2, 20)

    def __post_init__(self) -> None:
        require(0.0 < self.recycled <= 1.0, "recycled", "above 0 and at most 1", self.recycled)
        require(self.cluster_size >= 1, "cluster_size", "1 or more", self.cluster_size)


class SparseVlm(TokenPolicy):
    """Text-rated cuts at several layers; the module docstring has the method and the deviations."""

    name: ClassVar[str] = "sparsevlm"
    options = SparseVlmConfig

    def __init__(self, config: SparseVlmConfig, shape: ModelShape) -> None:
        layers, dropped = resolve_cuts(config, shape.layers)
        self.config: SparseVlmConfig = replace(config, layers=layers, dropped=dropped)
        self.cuts = tuple(Cut(Place.DECODER, layer, (AttentionByRow(layer - 1),)) for layer in layers)
        self.merges = config.recycle
        self._dropped, self._tokens = dropped, shape.grid.tokens

    def schedule(self, keep: int) -> tuple[int, ...]:
        """Return the survivors of each cut; the last leaves ``keep``."""
        if self._dropped is None:
            return published_counts(self._tokens, keep, len(self.cuts))
        return nested_counts(self._tokens, keep, self._dropped)

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return the ``keep`` tokens that the raters look at most, or fewer of them and merged tokens."""
        del carry
        if inputs.cut == 0:
            raters = text_raters(inputs.text, inputs.text_mask, inputs.embeddings)
            notes = notes_of(raters, inputs.alive)
        else:
            raters = raters_in(inputs.memo, inputs.text.shape[1])
            notes = dict(inputs.memo)
        score = rated(inputs.signals[0], raters)
        clusters = clusters_in(inputs.alive, keep, self.config) if self.config.recycle else 0
        if clusters == 0:
            return Selection(keep_top_k(score, keep), memo=notes)
        kept, mix = self._recycled(inputs, score, keep, clusters)
        return Selection(kept, mix, notes)

    def _recycled(
        self, inputs: SelectionInputs, score: Tensor, keep: int, clusters: int
    ) -> tuple[Tensor, Tensor]:
        """Keep the best tokens whole and ``clusters`` merged ones."""
        whole = top_k_mask(score, keep - clusters)
        pool_size = pooled(inputs.alive - keep + clusters, self.config)
        pool = keep_top_k(torch.where(whole, -torch.inf, score), pool_size)
        centres, member = density_peaks(gather_tokens(inputs.embeddings.float(), pool), clusters)
        centre_tokens = torch.gather(pool, 1, centres)
        kept = ascending(torch.cat([indices_of(whole, keep - clusters), centre_tokens], dim=1))
        own = slots_of(kept, inputs.alive)
        slots = torch.gather(own, 1, centre_tokens)
        joined = torch.where(member == NOWHERE, NOWHERE, torch.gather(slots, 1, member.clamp(min=0)))
        return kept, weighted_means(own.scatter(1, pool, joined), torch.ones_like(score), kept)


def published_counts(tokens: int, keep: int, cuts: int) -> tuple[int, ...]:
    """Return the survivors of the last ``cuts`` of the three published cuts, of which the last leaves ``keep``."""
    rows = [
        (last / 576, *(count / 576 for count in (*others, last))) for *others, last in PUBLISHED_SURVIVORS
    ]
    *earlier, _ = interpolated(rows, keep / tokens)[-cuts:]
    return (*(max(keep, round(share * tokens)) for share in earlier), keep)


def resolve_cuts(config: SparseVlmConfig, layers: int) -> tuple[tuple[int, ...], tuple[float, ...] | None]:
    """Return the layers of a decoder with ``layers`` layers, and the dropped shares, None = as published.

    Raises:
        PolicyError: They do not rise, do not match, or lie outside of the decoder.
    """
    cuts, dropped = config.layers, config.dropped
    if cuts is None:
        given = 3 if dropped is None else len(dropped)
        count = min(given, 3, max(layers - 1, 1))
        cuts = scaled_layers(PUBLISHED_LAYERS[3 - count :], layers)
    require(
        len(cuts) > 0 and list(cuts) == sorted(set(cuts)) and cuts[0] >= 1 and cuts[-1] < layers,
        "layers",
        f"rising and in 1..{layers - 1} for a decoder of {layers} layers",
        list(cuts),
    )
    if dropped is None and len(cuts) <= len(PUBLISHED_LAYERS):
        return cuts, None
    dropped = dropped or ()
    rises = list(dropped) == sorted(dropped) and all(0.0 <= share <= 1.0 for share in dropped)
    require(
        len(dropped) == len(cuts) > 0 and rises and dropped[-1] == 1.0,
        "dropped",
        f"{len(cuts)} shares, one for each cut, that rise to 1.0",
        list(dropped),
    )
    return cuts, dropped


def pooled(dropped: int, config: SparseVlmConfig) -> int:
    """Return how many of ``dropped`` tokens are clustered."""
    return min(int(config.recycled * dropped) + 1, dropped)


def clusters_in(alive: int, keep: int, config: SparseVlmConfig) -> int:
    """Return how many of ``keep`` survivors are merged tokens.

    Each takes the place of a token that is then dropped too, and may be clustered in its turn; at least one token is
    kept whole. 0 if nothing is dropped.
    """
    if alive == keep:
        return 0
    clusters = 0
    while clusters < keep - 1:
        pool = pooled(alive - keep + clusters, config)
        if clusters >= min(pool // config.cluster_size + 1, pool):
            break
        clusters += 1
    return clusters
