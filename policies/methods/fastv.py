"""fastv: rank by the attention that one row of an early decoder layer pays.

Paper: "An Image is Worth 1/2 Tokens After Layer 2" (FastV, 2403.06764); code pkunlp-icler/FastV, read at d165972.

Deviations: original positions are kept. ``rows="last"`` is the code (the paper's text says a mean); the default
``text`` also suits bidirectional decoders, where the last row means nothing. ``exclude_sinks`` is not the paper's, see
:mod:`saccade.policies.blocks.sinks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from saccade.policies.base import (
    Carry,
    ModelShape,
    Selection,
    SelectionInputs,
    TokenPolicy,
    decoder_cut,
)
from saccade.policies.blocks.selection import keep_top_k
from saccade.policies.blocks.sinks import (
    SinksOption,
    check_sinks,
    sink_signals,
    sink_threshold,
    without_sinks,
)
from saccade.policies.config import PolicyConfig, resolve_insertion_layer
from saccade.policies.measurements import Measurements
from saccade.policies.signals import AttentionReceived, QueryRows


@dataclass(frozen=True, kw_only=True)
class FastVConfig(PolicyConfig):
    """Options of fastv.

    Args:
        insertion_layer: K, the first decoder layer that sees only the kept tokens. None = 2 of 32 layers, scaled.
        rows: Query rows of layer K-1 whose attention ranks: ``text``, ``last`` (the paper's code) or ``all``.
        exclude_sinks: Mean attention, over all rows of layer K-1, above which a column does not rank; ``auto``:
            calibration finds it; ``off``: every column ranks.
    """

    insertion_layer: int | None = None
    rows: Literal["text", "last", "all"] = "text"
    exclude_sinks: SinksOption = "off"

    def __post_init__(self) -> None:
        check_sinks(self.exclude_sinks)


class FastV(TokenPolicy):
    """Top-k by the attention received in layer K-1; no memory."""

    name: ClassVar[str] = "fastv"
    options = FastVConfig

    def __init__(self, config: FastVConfig, shape: ModelShape) -> None:
        layer = resolve_insertion_layer(config.insertion_layer, shape.layers, published=2)
        self.config: FastVConfig = replace(config, insertion_layer=layer)
        self.calibration_signals = (AttentionReceived(QueryRows.ALL, (layer - 1,)),)
        self.needs_calibration = config.exclude_sinks == "auto"
        ranked = AttentionReceived(QueryRows(config.rows), (layer - 1,))
        self.cuts = decoder_cut(layer, ranked, *sink_signals(config.exclude_sinks, *self.calibration_signals))

    def calibrate(self, measured: Measurements) -> Mapping[str, object]:
        """Find the threshold of sinks."""
        return {"exclude_sinks": sink_threshold(measured.of(*self.calibration_signals))}

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return the ``keep`` tokens that received most attention."""
        del carry
        received, *columns = inputs.signals
        return Selection(keep_top_k(without_sinks(received, columns, self.config.exclude_sinks), keep))
