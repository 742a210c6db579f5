"""center_crop: keep what lies nearest to the middle of each view. Blind to task and image, as cropping is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from saccade.policies.base import (
    Carry,
    Grid,
    ModelShape,
    Selection,
    SelectionInputs,
    TokenPolicy,
    decoder_cut,
)
from saccade.policies.blocks.budgets import choose_per_view
from saccade.policies.blocks.selection import keep_top_k
from saccade.policies.config import PolicyConfig, resolve_insertion_layer


@dataclass(frozen=True, kw_only=True)
class CenterCropConfig(PolicyConfig):
    """Options of center_crop.

    Args:
        insertion_layer: First decoder layer that sees only the kept tokens; 0 = the entry. With the layer of another
            policy it is that policy less its selection: what the cut saves, without what choosing costs.
    """

    insertion_layer: int = 0


class CenterCrop(TokenPolicy):
    """Keep the middle of each view, equal in every control step; views share the budget evenly."""

    name: ClassVar[str] = "center_crop"
    options = CenterCropConfig

    def __init__(self, config: CenterCropConfig, shape: ModelShape) -> None:
        shape.grid.require_rows(self.name)
        layer = config.insertion_layer
        layer = 0 if layer == 0 else resolve_insertion_layer(layer, shape.layers)
        self.config = config
        self.cuts = decoder_cut(layer)

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return the ``keep`` tokens nearest to the middle; ties to the lowest index."""
        del carry
        nearness = closeness_to_middle(inputs.grid).to(inputs.embeddings.device)
        scores = nearness.expand(inputs.embeddings.shape[0], -1)
        kept = choose_per_view(
            lambda tensors, count: keep_top_k(tensors[0], count), [scores], inputs.grid, keep
        )
        return Selection(kept)


def closeness_to_middle(grid: Grid) -> Tensor:
    """Return minus the larger of the row and column distance from the middle, in tokens, float32 ``(tokens,)``."""
    patches = grid.columns - int(grid.newline)
    rows = (torch.arange(grid.rows) - (grid.rows - 1) / 2).abs()
    columns = (torch.arange(grid.columns) - (patches - 1) / 2).abs()
    return -torch.maximum(rows.unsqueeze(1), columns.unsqueeze(0)).flatten().repeat(grid.views)
