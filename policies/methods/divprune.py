"""divprune: keep tokens that are as unlike each other as possible; blind to the task.

Paper: "DivPrune" (2503.02175, CVPR 2025); code vbdi/divprune, read at 799e2d9.

Max-min diversity of cosine distances between the decoder's input embeddings, before the decoder. Deviation: distances
are rounded so that ties fall the same way everywhere, see :mod:`saccade.policies.blocks.diversity`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from saccade.policies.base import (
    Carry,
    ModelShape,
    Selection,
    SelectionInputs,
    TokenPolicy,
    decoder_cut,
)
from saccade.policies.blocks.budgets import choose_per_view
from saccade.policies.blocks.diversity import max_min_diversity
from saccade.policies.blocks.selection import ascending
from saccade.policies.config import PolicyConfig


@dataclass(frozen=True, kw_only=True)
class DivPruneConfig(PolicyConfig):
    """Options of divprune.

    Args:
        budget: Whether there is one budget over all views (``joint``, the paper) or an even share for each
            (``per_view``).
    """

    budget: Literal["joint", "per_view"] = "joint"


class DivPrune(TokenPolicy):
    """Max-min diversity over all visual tokens, at the decoder's entry."""

    name: ClassVar[str] = "divprune"
    options = DivPruneConfig

    def __init__(self, config: DivPruneConfig, shape: ModelShape) -> None:
        del shape
        self.config: DivPruneConfig = config
        self.cuts = decoder_cut(0)

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return ``keep`` tokens, each far from the others."""
        del carry
        if self.config.budget == "per_view":
            return Selection(choose_per_view(most_diverse, [inputs.embeddings], inputs.grid, keep))
        return Selection(most_diverse([inputs.embeddings], keep))


def most_diverse(tensors: Sequence[Tensor], keep: int) -> Tensor:
    """Return the ascending max-min choice from embeddings ``(batch, tokens, dim)``, int64 ``(batch, keep)``."""
    (embeddings,) = tensors
    everyone = torch.ones(embeddings.shape[:2], dtype=torch.bool, device=embeddings.device)
    return ascending(max_min_diversity(embeddings, everyone, keep))
