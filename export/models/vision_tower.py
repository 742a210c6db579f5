"""What every vision tower has, so that a graph may run it block by block with a policy in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor, nn


class TowerConfig(Protocol):
    """What a graph, and whoever counts its costs, asks of a tower's configuration."""

    @property
    def width(self) -> int:
        """Channels of a patch."""
        ...

    @property
    def depth(self) -> int:
        """Blocks in the published tower."""
        ...

    @property
    def heads(self) -> int:
        """Attention heads of a block."""
        ...

    @property
    def mlp_dim(self) -> int:
        """Hidden width of a block's MLP."""
        ...

    @property
    def run_blocks(self) -> int:
        """Blocks that run."""
        ...

    @property
    def picture_size(self) -> tuple[int, int]:
        """Height and width of one picture, pixels."""
        ...

    @property
    def token_size(self) -> int:
        """Side of a visual token before any pooling outside the tower, pixels."""
        ...

    @property
    def patches(self) -> int:
        """Patches of one picture."""
        ...

    @property
    def patch_values(self) -> int:
        """Numbers that the embedding of a patch multiplies."""
        ...

    @property
    def mlp_products(self) -> int:
        """Multiply-accumulates of a block's MLP for one token."""
        ...

    def attended_pairs(self, block: int, patches: int) -> int:
        """Return how many pairs of query and key a block forms when it sees so many patches of a picture."""
        ...

    @property
    def patch_size(self) -> int:
        """Side of a patch, pixels."""
        ...

    @property
    def class_token(self) -> bool:
        """Whether a token for the whole picture stands in front."""
        ...

    @property
    def prefix_tokens(self) -> int:
        """Tokens in front of the patches."""
        ...

    @property
    def windowed_blocks(self) -> frozenset[int]:
        """Blocks where a patch attends to the patches of its window alone (Qwen2.5-VL); most towers have none."""
        ...

    @property
    def deep_blocks(self) -> tuple[int, ...]:
        """Blocks whose output goes on to decoder layers too (Qwen3-VL), ascending; most towers have none."""
        ...


class VisionTower(Protocol):
    """A tower that is run block by block: ``finish(blocks(begin(pixels)))``; a block gives a ``BlockOutput``."""

    blocks: nn.ModuleList

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Return the tower's weights, as ``nn.Module`` gives them."""
        ...

    @property
    def config(self) -> TowerConfig:
        """The tower's switches."""
        ...

    def begin(self, pixels: Tensor) -> Tensor:
        """Embed pictures, float ``(pictures, height, width, 3)``, 0 to 255: what the first block takes."""
        ...

    def finish(self, x: Tensor) -> Tensor:
        """Turn what a block gives into features, ``(pictures, tokens, channels)``."""
        ...
