"""vtc_cls: keep what the vision tower's class token looks at over its later blocks; blind to the task.

Paper: "[CLS] Token Tells Everything Needed for Training-free Efficient MLLMs" (VTC-CLS, 2412.05819); code
THU-MIG/VTC-CLS, read at e41ac9b.

Between tower and projector, for each image: ``s_m = sum of A_l[CLS, m] over blocks l0 .. last``, A_l the head mean and
``last`` the block whose output is read; the ``keep`` highest survive, in raster order.

Deviations and readings:

- Attention is normalised over patches alone: the share that the class token pays itself and the registers is left out
  (the code keeps it in the divisor, head by head).
- The mean over blocks stands for the sum; both rank alike.
- l0 = 16 of the 23 blocks that run in the paper's tower (24, read at the last but one), scaled to other depths.
- A tower without class token: the mean attention that a patch receives from all patches.
- The paper prunes one image. ``budget="per_view"`` gives every view an even share; ``joint`` ranks all views together.
- ``exclude_sinks`` is not the paper's, see :mod:`saccade.policies.blocks.sinks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Tensor

from saccade.policies.base import (
    Carry,
    ModelShape,
    Selection,
    SelectionInputs,
    TokenPolicy,
    projector_cut,
)
from saccade.policies.blocks.budgets import choose_per_view
from saccade.policies.blocks.selection import keep_top_k
from saccade.policies.blocks.sinks import (
    SinksOption,
    check_sinks,
    sink_signals,
    sink_threshold,
    without_sinks,
)
from saccade.policies.blocks.towers import choose_rows, choose_tower
from saccade.policies.config import PolicyConfig, require, tunable
from saccade.policies.measurements import Measurements
from saccade.policies.signals import VisionAttention, VisionRows

PUBLISHED_FIRST_BLOCK, PUBLISHED_BLOCKS = 16, 23


@dataclass(frozen=True, kw_only=True)
class VtcClsConfig(PolicyConfig):
    """Options of vtc_cls.

    Args:
        first_block: l0, the first vision block that counts. None = 16 of 23 that run, scaled.
        tower: The vision tower that is read. None = the first with a class token, else the last.
        rows: Whose attention counts: the ``class`` token's, or that of all ``patches``. None = ``class`` if it exists.
        budget: Whether each view has an even share of the budget (``per_view``), or one ranking counts for all
            (``joint``).
        exclude_sinks: Mean attention, from all patches in the blocks that count, above which a patch does not rank;
            ``auto``: calibration finds it; ``off``: every patch ranks.
    """

    first_block: int | None = None
    tower: int | None = None
    rows: Literal["class", "patches"] | None = None
    budget: Literal["per_view", "joint"] = tunable("per_view")
    exclude_sinks: SinksOption = "off"

    def __post_init__(self) -> None:
        check_sinks(self.exclude_sinks)


class VtcCls(TokenPolicy):
    """Top-k by the class token's attention over several blocks; no memory."""

    name: ClassVar[str] = "vtc_cls"
    options = VtcClsConfig

    def __init__(self, config: VtcClsConfig, shape: ModelShape) -> None:
        tower = choose_tower(config.tower, shape)
        rows = choose_rows(config.rows, tower, shape)
        blocks = shape.towers[tower].blocks
        first = config.first_block
        if first is None:
            first = min(round(PUBLISHED_FIRST_BLOCK * blocks / PUBLISHED_BLOCKS), blocks - 1)
        require(
            0 <= first < blocks,
            "first_block",
            f"in 0..{blocks - 1} for a tower that runs {blocks} blocks",
            first,
        )
        self.config: VtcClsConfig = replace(config, first_block=first, tower=tower, rows=rows)
        counted = tuple(range(first, blocks))
        self.calibration_signals = (VisionAttention(VisionRows.PATCHES, counted, tower),)
        self.needs_calibration = config.exclude_sinks == "auto"
        ranked = VisionAttention(VisionRows(rows), counted, tower)
        self.cuts = projector_cut(ranked, *sink_signals(config.exclude_sinks, *self.calibration_signals))

    def calibrate(self, measured: Measurements) -> Mapping[str, object]:
        """Find the threshold of sinks."""
        return {"exclude_sinks": sink_threshold(measured.of(*self.calibration_signals))}

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return the ``keep`` tokens that received most attention."""
        del carry
        attention, *columns = inputs.signals
        attention = without_sinks(attention, columns, self.config.exclude_sinks)
        if self.config.budget == "joint":
            return Selection(keep_top_k(attention, keep))
        return Selection(choose_per_view(_most_attended, [attention], inputs.grid, keep))


def _most_attended(tensors: Sequence[Tensor], keep: int) -> Tensor:
    """Return the ascending top-k of attention ``(batch, tokens)``."""
    return keep_top_k(tensors[0], keep)
