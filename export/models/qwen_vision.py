"""The vision tower of Qwen2.5-VL and Qwen3-VL, for pictures of one size; a switch table, no forks.

A *visual token* is a square of ``merge_size ** 2`` patches. Inside the tower patches lie so that those of a visual
token stand together, and where there are windows, the visual tokens of a window too; what leaves the tower is in
row-major order again. Order and rotary tables follow from the size: they are constants. So is the learned position
table once it is resampled, which a graph does when it is built.

It is run as :class:`saccade.export.models.vision_transformer.VisionTransformer` is: begin, block by block, finish.
Parameter names are transformers'.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.export.models.activations import activation
from saccade.export.models.decoder import RmsNorm
from saccade.export.models.qwen_patches import PatchOrder, QwenVisionConfig, Run
from saccade.export.models.vision_transformer import BlockOutput, patchify


class TowerFeatures(NamedTuple):
    """What the tower gives before the mergers, ``(clips, tokens, token_width)`` each, visual tokens row-major.

    Args:
        last: What the last block gave.
        deep: What each block of ``deep_blocks`` gave, in their order.
    """

    last: Tensor
    deep: tuple[Tensor, ...]


class QwenPatchEmbedding(nn.Module):
    """Non-overlapping patches of one or several frames to tokens: a convolution with stride = kernel."""

    def __init__(self, config: QwenVisionConfig) -> None:
        super().__init__()
        kernel = (config.patch_frames, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(3, config.width, kernel, stride=kernel, bias=not config.gated)

    def forward(self, patches: Tensor) -> Tensor:
        """Embed patches, ``(clips, frames, patches, patch_size * patch_size * 3)`` -> ``(clips, patches, width)``.

        Of a still picture comes one frame: the kernels of equal frames add up.
        """
        kernel = self.proj.weight
        if patches.shape[1] == 1:
            kernel = kernel.sum(dim=2, keepdim=True)
        return F.linear(
            patches.transpose(1, 2).flatten(2), kernel.permute(0, 2, 3, 4, 1).flatten(1), self.proj.bias
        )


class QwenVisionAttention(nn.Module):
    """Self-attention with rotary positions, inside windows or over the whole picture."""

    def __init__(self, config: QwenVisionConfig, order: PatchOrder, runs: tuple[Run, ...]) -> None:
        super().__init__()
        self.heads = config.heads
        self.order, self.runs = order, runs
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(clips, patches, width) -> same, and query and key after rotary, ``(clips, heads, patches, head_dim)``."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        query, key = (self.order.rotary.apply(part) for part in (query, key))
        mixed, start = [], 0
        for run in self.runs:
            end = start + run.windows * run.patches
            parts = (part[:, :, start:end].unflatten(2, run).flatten(1, 2) for part in (query, key, value))
            inside = F.scaled_dot_product_attention(*parts)
            mixed.append(inside.unflatten(1, (self.heads, run.windows)).flatten(2, 3))
            start = end
        return self.proj(torch.cat(mixed, dim=2).transpose(1, 2).flatten(2)), query, key


class QwenGatedMlp(nn.Module):
    """down(activation(gate(x)) * up(x)), with biases."""

    def __init__(self, config: QwenVisionConfig) -> None:
        super().__init__()
        self.activation = activation(config.activation)
        self.gate_proj = nn.Linear(config.width, config.mlp_dim)
        self.up_proj = nn.Linear(config.width, config.mlp_dim)
        self.down_proj = nn.Linear(config.mlp_dim, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same."""
        projected: Tensor = self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))
        return projected


class QwenMlp(nn.Module):
    """Linear, activation, Linear."""

    def __init__(self, config: QwenVisionConfig) -> None:
        super().__init__()
        self.activation = activation(config.activation)
        self.linear_fc1 = nn.Linear(config.width, config.mlp_dim)
        self.linear_fc2 = nn.Linear(config.mlp_dim, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same."""
        projected: Tensor = self.linear_fc2(self.activation(self.linear_fc1(x)))
        return projected


class QwenVisionBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: QwenVisionConfig, order: PatchOrder, index: int) -> None:
        super().__init__()
        runs = order.whole if index in config.full_blocks else order.windowed
        self.norm1 = _norm(config, config.width)
        self.attn = QwenVisionAttention(config, order, runs)
        self.norm2 = _norm(config, config.width)
        self.mlp = QwenGatedMlp(config) if config.gated else QwenMlp(config)

    def forward(self, x: Tensor) -> BlockOutput:
        """Run one block on ``(clips, patches, width)``, patches as they lie; query and key are after rotary."""
        mixed, query, key = self.attn(self.norm1(x))
        x = x + mixed
        return BlockOutput(x + self.mlp(self.norm2(x)), query, key)


class PatchMerger(nn.Module):
    """The patches of a visual token to one vector: norm, Linear, exact GELU, Linear.

    Args:
        config: Switches of the tower whose patches are merged.
        norm_width: Channels that are normalised together: a patch's, or the whole token's.
    """

    def __init__(self, config: QwenVisionConfig, norm_width: int) -> None:
        super().__init__()
        self.norm_width = norm_width
        self.norm = _norm(config, norm_width)
        self.fc1 = nn.Linear(config.token_width, config.token_width)
        self.fc2 = nn.Linear(config.token_width, config.out_width)

    def forward(self, x: Tensor) -> Tensor:
        """Merge the patches of each visual token, ``(..., token_width)`` -> ``(..., out_width)``."""
        normed = self.norm(x.unflatten(-1, (-1, self.norm_width))).flatten(-2)
        merged: Tensor = self.fc2(F.gelu(self.fc1(normed)))
        return merged


class QwenVisionTower(nn.Module):
    """A tower: pictures to features of visual tokens, before the mergers.

    Source:
        Qwen2.5-VL (2502.13923) and Qwen3-VL (2511.21631) as in transformers' ``Qwen2_5_VLForConditionalGeneration``
        and ``Qwen3VLForConditionalGeneration``.
    """

    def __init__(self, config: QwenVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.order = PatchOrder(config)
        self.patch_embed = QwenPatchEmbedding(config)
        if config.position_side:
            self.pos_embed = nn.Embedding(config.position_side**2, config.width)
        self.blocks = nn.ModuleList(
            QwenVisionBlock(config, self.order, index) for index in range(config.depth)
        )

    def forward(self, pixels: Tensor) -> TowerFeatures:
        """Encode pictures or frames of videos, float ``(pictures, height, width, 3)``, RGB, 0 to 255."""
        x, deep = self.begin(pixels), []
        for index, block in enumerate(self.blocks):
            x = block(x).hidden
            if index in self.config.deep_blocks:
                deep.append(self.finish(x))
        return TowerFeatures(self.finish(x), tuple(deep))

    def begin(self, pixels: Tensor) -> Tensor:
        """Embed pictures: what the first block takes.

        Args:
            pixels: float ``(pictures, height, width, 3)``, RGB, 0 to 255; or the frames of videos, one after the other.

        Returns:
            ``(clips, patches, width)``, patches as they lie in the tower; a still picture is a clip.
        """
        config = self.config
        scale = pixels.new_tensor([1 / (255 * std) for std in config.pixel_std])
        shift = pixels.new_tensor(
            [mean / std for mean, std in zip(config.pixel_mean, config.pixel_std, strict=True)]
        )
        patches = self.order.arrange(patchify(pixels * scale - shift, config.patch_size))
        embedded: Tensor = self.patch_embed(self._clips(patches))
        return embedded + self._positions() if config.position_side else embedded

    def finish(self, x: Tensor) -> Tensor:
        """Join patches as they lie, ``(clips, patches, width)``, to row-major ``(clips, tokens, token_width)``."""
        return self.order.tokens_of(x)

    def _clips(self, patches: Tensor) -> Tensor:
        """Patches ``(pictures, patches, values)`` -> ``(clips, frames, patches, values)``.

        An incomplete clip at the end of a video is filled up with its last frame.
        """
        if not self.config.frames:
            return patches.unsqueeze(1)
        videos = patches.unflatten(0, (-1, self.config.frames))
        missing = self.config.clips * self.config.patch_frames - self.config.frames
        if missing:
            videos = torch.cat([videos, videos[:, -1:].expand(-1, missing, -1, -1)], dim=1)
        return videos.unflatten(1, (-1, self.config.patch_frames)).flatten(0, 1)

    def _positions(self) -> Tensor:
        """Return the learned position table resampled to the picture, ``(1, patches, width)``."""
        config, table = self.config, self.pos_embed.weight
        side = config.position_side
        down, across = (_resampling(size, side, table.device) for size in (config.rows, config.columns))
        resampled = across @ (down @ table.reshape(side, -1)).reshape(config.rows, side, -1)
        return self.order.arrange(resampled.reshape(1, -1, config.width))


def _resampling(size: int, side: int, device: torch.device) -> Tensor:
    """Weights ``(size, side)`` of linear interpolation with aligned corners, from ``side`` values to ``size``."""
    places = torch.arange(size, dtype=torch.float32, device=device) * ((side - 1) / max(size - 1, 1))
    distances = places.unsqueeze(1) - torch.arange(side, dtype=torch.float32, device=device)
    return (1 - distances.abs()).clamp(min=0)


def _norm(config: QwenVisionConfig, width: int) -> nn.Module:
    return RmsNorm(width, config.norm_eps) if config.gated else nn.LayerNorm(width, eps=config.norm_eps)
