"""The towers of OpenVLA and OpenVLA-OFT: one, or two whose channels are concatenated for each patch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from saccade.export.models.action_head import MlpProjector
from saccade.export.models.vision_transformer import VisionConfig, VisionTransformer

TOWER_NAMES = ("featurizer", "fused_featurizer")
"""Names under which the published checkpoints store the towers."""


class VisionBackbone(nn.Module):
    """One tower, or two whose channels are concatenated for each patch.

    Args:
        towers: Switches of the towers, one or two; all give the same number of tokens.
    """

    def __init__(self, towers: Sequence[VisionConfig]) -> None:
        super().__init__()
        for name, tower in zip(TOWER_NAMES, towers, strict=False):
            self.add_module(name, VisionTransformer(tower))

    @property
    def towers(self) -> tuple[VisionTransformer, ...]:
        """The towers, in the order of their channels."""
        return tuple(cast(VisionTransformer, tower) for tower in self.children())

    def forward(self, images: Tensor) -> Tensor:
        """Pixels 0..255, float ``(images, height, width, 3)`` -> ``(images, patches, vision_width)``."""
        features = [tower.encode_pixels(images) for tower in self.towers]
        return features[0] if len(features) == 1 else torch.cat(features, dim=-1)


def vision_projector(towers: Sequence[VisionConfig], width: int) -> MlpProjector:
    """Return what brings patches to the decoder's ``width``: two layers for a single tower, three for fused ones."""
    channels = sum(tower.width for tower in towers)
    hidden = [width] if len(towers) == 1 else [4 * channels, width]
    return MlpProjector(channels, *hidden, width)
