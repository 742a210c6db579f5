"""How the patches of Qwen-VL's vision towers lie, for pictures of one size: a tower's switches and its constants."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, groupby
from typing import NamedTuple

import torch
from torch import Tensor, nn

from saccade.export.models.decoder import Rotary


@dataclass(frozen=True, kw_only=True)
class QwenVisionConfig:
    """The switches of one tower.

    Args:
        rows: Patches down a picture; a multiple of ``merge_size``.
        columns: Patches across; a multiple of ``merge_size``.
        frames: Frames of one video; 0 = still pictures.
        patch_size: Side of a patch, pixels.
        patch_frames: Frames of a patch; a still picture counts as so many equal ones.
        merge_size: Side of a visual token, patches.
        width: Channels of a patch.
        depth: Blocks.
        heads: Attention heads; the channels of a head are a multiple of 4.
        mlp_dim: Hidden width of the MLP.
        out_width: Channels of a visual token after the merger.
        activation: Name of the MLP's activation.
        gated: RMSNorm, a gated MLP and no bias at the patches (Qwen2.5); else LayerNorm, two layers, a bias (Qwen3).
        window: Side of an attention window, visual tokens; 0 = every patch sees the whole picture.
        full_blocks: Blocks without windows.
        position_side: Side of the learned position table, resampled to the picture; 0 = there is none.
        deep_blocks: Blocks whose output is handed out too, ascending.
        norm_eps: Epsilon of every norm.
        rope_theta: Rotary base.
        pixel_mean: Mean that is subtracted from each channel, for pixels in 0..1.
        pixel_std: Standard deviation that each channel is divided by, for pixels in 0..1.
    """

    rows: int
    columns: int
    frames: int
    patch_size: int
    patch_frames: int
    merge_size: int
    width: int
    depth: int
    heads: int
    mlp_dim: int
    out_width: int
    activation: str
    gated: bool
    window: int = 0
    full_blocks: tuple[int, ...] = ()
    position_side: int = 0
    deep_blocks: tuple[int, ...] = ()
    norm_eps: float = 1e-6
    rope_theta: float = 1e4
    pixel_mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    pixel_std: tuple[float, ...] = (0.5, 0.5, 0.5)

    @property
    def patches(self) -> int:
        """Patches of one picture, or of one clip of frames."""
        return self.rows * self.columns

    @property
    def run_blocks(self) -> int:
        """Blocks that run: all of them."""
        return self.depth

    @property
    def token_size(self) -> int:
        """Side of a visual token, pixels."""
        return self.patch_size * self.merge_size

    @property
    def patch_values(self) -> int:
        """Numbers that the embedding of a patch multiplies; the frame axis of still pictures is folded."""
        return 3 * self.patch_size**2 * (self.patch_frames if self.frames else 1)

    @property
    def mlp_products(self) -> int:
        """Multiply-accumulates of a block's MLP for one token."""
        return (3 if self.gated else 2) * self.width * self.mlp_dim

    def attended_pairs(self, block: int, patches: int) -> int:
        """Return how many pairs of query and key a block forms: within windows, but for the full blocks."""
        if block in self.full_blocks:
            return patches**2
        return sum((len(window) * self.merge_size**2) ** 2 for window in self.windows)

    @property
    def class_token(self) -> bool:
        """Whether a token for the whole picture stands in front: never here."""
        return False

    @property
    def prefix_tokens(self) -> int:
        """Tokens in front of the patches: none here."""
        return 0

    @property
    def windowed_blocks(self) -> frozenset[int]:
        """Blocks with windows; none where one window holds the picture."""
        return frozenset(range(self.depth)) - set(self.full_blocks) if len(self.windows) > 1 else frozenset()

    @property
    def picture_size(self) -> tuple[int, int]:
        """Height and width of a picture or frame, pixels."""
        return self.rows * self.patch_size, self.columns * self.patch_size

    @property
    def token_rows(self) -> int:
        """Visual tokens down a picture."""
        return self.rows // self.merge_size

    @property
    def token_columns(self) -> int:
        """Visual tokens across a picture."""
        return self.columns // self.merge_size

    @property
    def token_width(self) -> int:
        """Channels of a visual token before the merger."""
        return self.width * self.merge_size**2

    @property
    def clips(self) -> int:
        """Runs of ``patch_frames`` frames in a video; 1 for a still picture."""
        return -(-max(self.frames, 1) // self.patch_frames)

    @property
    def windows(self) -> tuple[tuple[int, ...], ...]:
        """Visual tokens of each attention window, row-major indices; smaller ones, at the borders, come last."""
        rows, columns = self.token_rows, self.token_columns
        side = self.window or max(rows, columns)
        found = [
            tuple(
                row * columns + column
                for row in range(top, min(top + side, rows))
                for column in range(left, min(left + side, columns))
            )
            for top in range(0, rows, side)
            for left in range(0, columns, side)
        ]
        return tuple(sorted(found, key=len, reverse=True))


class Run(NamedTuple):
    """Windows of one size that lie one after the other: attention computes them together.

    Args:
        windows: Number of windows in the run.
        patches: Patches of each window.
    """

    windows: int
    patches: int


class PatchOrder(nn.Module):
    """How patches lie in the tower, and their rotary tables: constants, shared by all blocks.

    Attributes:
        tokens: int64 ``(tokens,)``: the visual tokens as they lie, row-major indices.
        places: int64 ``(tokens,)``: where each visual token lies.
        cos: Cosines of the rotation, float32 ``(1, 1, patches, head_dim)``, as :class:`Rotary` has them. Half of the
            frequencies turn with the row, half with the column.
        sin: Signed sines of the rotation, float32 ``(1, 1, patches, head_dim)``, as :class:`Rotary` has them.
    """

    tokens: Tensor
    places: Tensor
    cos: Tensor
    sin: Tensor

    def __init__(self, config: QwenVisionConfig) -> None:
        super().__init__()
        self.config = config
        unit = config.merge_size**2
        self.windowed = tuple(
            Run(len(list(alike)), tokens * unit) for tokens, alike in groupby(map(len, config.windows))
        )
        self.whole = (Run(1, config.rows * config.columns),)
        # Made on the CPU even where weights have no memory yet.
        order = torch.tensor(tuple(chain.from_iterable(config.windows)), device="cpu")
        self.register_buffer("tokens", order, persistent=False)
        self.register_buffer("places", order.argsort(), persistent=False)
        angles = self._angles()
        for name, table in (("cos", [angles.cos()] * 2), ("sin", [-angles.sin(), angles.sin()])):
            self.register_buffer(name, torch.cat(table, dim=-1), persistent=False)

    @property
    def rotary(self) -> Rotary:
        """The rotary tables."""
        return Rotary(self.cos, self.sin)

    def arrange(self, x: Tensor) -> Tensor:
        """Bring ``(n, patches, channels)`` from row-major order into the order in which patches lie in the tower."""
        count, patches, channels = x.shape
        config, side = self.config, self.config.merge_size
        tiles = x.reshape(count, config.token_rows, side, config.token_columns, side, channels)
        tokens = tiles.transpose(2, 3).reshape(count, -1, side**2 * channels)
        if config.window:
            tokens = tokens.index_select(1, self.tokens)
        return tokens.reshape(count, patches, channels)

    def tokens_of(self, x: Tensor) -> Tensor:
        """Join the patches of each visual token, and bring tokens into row-major order.

        ``(n, patches, channels)`` as they lie in the tower -> ``(n, tokens, merge_size ** 2 * channels)``.
        """
        tokens = x.reshape(x.shape[0], -1, self.config.merge_size**2 * x.shape[2])
        return tokens.index_select(1, self.places) if self.config.window else tokens

    def _angles(self) -> Tensor:
        """Rotation angles, ``(1, 1, patches, head_dim / 2)``."""
        config = self.config
        count = config.width // config.heads // 4
        frequencies = config.rope_theta ** -(torch.arange(count, dtype=torch.float32, device="cpu") / count)
        sides = (torch.arange(side, device="cpu") for side in (config.rows, config.columns))
        places = torch.stack(torch.meshgrid(*sides, indexing="ij"), dim=-1).reshape(1, -1, 2)
        return (self.arrange(places).unsqueeze(-1) * frequencies).flatten(2).unsqueeze(1)
