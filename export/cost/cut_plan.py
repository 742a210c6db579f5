"""Where a policy drops visual tokens in a model, and what that leaves of each layer: what accounting asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from saccade.export.cost.formulas import LayerTokens
from saccade.export.families.sequence import SequenceLayout
from saccade.export.models.decoder import DecoderConfig
from saccade.export.steps.layer_signals import reads_only_action
from saccade.export.steps.signal_store import SignalStore
from saccade.policies.base import Behind, Cut, Place, TokenPolicy


@dataclass(frozen=True)
class CutPlan:
    """A policy's cuts at one budget.

    Args:
        cuts: Cuts in order along the model; none = every token is kept.
        counts: Survivors of each cut.
        removed_heads: Indices of the heads that are removed, by decoder layer.
        is_last_layer_whole: Some signal wants more of the last decoder layer than the rows that are read from it.
    """

    cuts: tuple[Cut, ...] = ()
    counts: tuple[int, ...] = ()
    removed_heads: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    is_last_layer_whole: bool = False

    @classmethod
    def of(cls, policy: TokenPolicy, counts: Sequence[int] | None, layers: int) -> CutPlan:
        """Return the plan of a policy; without ``counts`` nothing is cut, but carry may still be computed.

        Args:
            policy: Policy whose cuts are planned.
            counts: Survivors of each cut at the budget, the policy's schedule; None = nothing is cut.
            layers: Number of decoder layers.
        """
        cuts = () if counts is None else policy.cuts
        stores = (
            SignalStore(request for cut in cuts for request in cut.signals),
            SignalStore(policy.update_signals),
        )
        whole = not reads_only_action(stores, layers - 1)
        if counts is None:
            return cls(is_last_layer_whole=whole)
        return cls(cuts, tuple(counts), policy.removed_heads, whole)

    @classmethod
    def at_entry(cls, keep: int) -> CutPlan:
        """Return the plan of a cut at the decoder's entry."""
        return cls((Cut(Place.DECODER, 0),), (keep,))

    def alive(self, tokens: int, place: Place, index: int = 0) -> int:
        """Return how many of ``tokens`` visual tokens are alive at a place, behind the cuts that lie in front of it."""
        order = list(Place).index(place), index
        for cut, count in zip(self.cuts, self.counts, strict=True):
            if cut.order <= order and not cut.only_encodes:
                tokens = count
        return tokens

    def encoded(self, tokens: int) -> int:
        """Return how many of ``tokens`` visual tokens have a patch that the towers encode, if all are alive there."""
        chosen = [count for cut, count in zip(self.cuts, self.counts, strict=True) if cut.only_encodes]
        return min(chosen, default=tokens)

    def visual_by_layer(self, tokens: int, layers: int) -> tuple[int, ...]:
        """Return how many of ``tokens`` visual tokens each decoder layer computes."""
        return tuple(self.alive(tokens, Place.DECODER, layer) for layer in range(layers))

    def layer_tokens(self, layout: SequenceLayout, layers: int, last_rows: int) -> tuple[LayerTokens, ...]:
        """Return the tokens of each decoder layer.

        Args:
            layout: Layout of the sequence with every visual token.
            layers: Number of decoder layers.
            last_rows: Number of rows of the last layer that are read.
        """
        remembered = any(cut.behind is Behind.LAST_STEP and not cut.only_encodes for cut in self.cuts)
        tokens = []
        for visual in self.visual_by_layer(layout.visual, layers):
            alive = layout.tokens - layout.visual + visual
            tokens.append(LayerTokens(alive, alive, layout.tokens if remembered else alive))
        if not self.is_last_layer_whole:
            tokens[-1] = tokens[-1]._replace(rows=last_rows)
        return tuple(tokens)

    def layer_configs(self, config: DecoderConfig) -> tuple[DecoderConfig, ...]:
        """Return the configuration of each decoder layer, without the heads that are removed from it."""
        group = config.heads // config.kv_heads
        gone = (len(set(self.removed_heads.get(layer, ()))) for layer in range(config.layers))
        heads = (config.heads - count for count in gone)
        return tuple(replace(config, heads=left, kv_heads=left // group) for left in heads)
