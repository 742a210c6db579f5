"""A tower whose patches come out in squares, one visual token for each: fewer tokens, more channels."""

from __future__ import annotations

from torch import Tensor

from saccade.export.models.vision_transformer import VisionConfig, VisionTransformer, patchify


class PixelShuffleTower(VisionTransformer):
    """A vision transformer that ends in pixel shuffle.

    Args:
        config: Switches of the transformer; it has no other tokens than patches.
        factor: Side of a square, patches; divides the tower's side.

    Source:
        SmolVLM (2504.05299): ``SmolVLMConnector.pixel_shuffle`` of transformers, which takes squares row by row, and
        the patches of a square row by row too.
    """

    def __init__(self, config: VisionConfig, factor: int) -> None:
        super().__init__(config)
        self.factor = factor

    def finish(self, x: Tensor) -> Tensor:
        """Turn what the last block gave into ``(images, tokens / factor**2, width * factor**2)``."""
        patches, side = super().finish(x), self.config.side
        return patchify(patches.unflatten(1, (side, side)), self.factor)
