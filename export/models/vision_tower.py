"""What every vision tower has, so that a graph may run it block by block with a policy in it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class TowerConfig(Protocol):
    """What a graph asks of a tower's configuration."""

    @property
    def patch_size(self) -> int:
        """Side of a patch, pixels."""
        ...

    @property
    def class_token(self) -> bool:
        """There is a token for the whole picture, in front."""
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

    @property
    def config(self) -> TowerConfig:
        """Its switches."""
        ...

    def begin(self, pixels: Tensor) -> Tensor:
        """Embed pictures, float ``(pictures, height, width, 3)``, 0 to 255: what the first block takes."""
        ...

    def finish(self, x: Tensor) -> Tensor:
        """Turn what a block gives into features, ``(pictures, tokens, channels)``."""
        ...
