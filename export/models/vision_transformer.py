"""One vision transformer for every tower: SigLIP, DINOv2 with registers, CLIP; a switch table, no forks.

Parameter names are timm's (``patch_embed.proj``, ``blocks.N.attn.qkv`` ...), which is what OpenVLA
checkpoints store; LayerScale is ``ls1.scale_factor`` as there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.export.models.activations import activation


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """The switches of one tower; the defaults are SigLIP's.

    Args:
        image_size: Side of the square input, pixels.
        patch_size: Side of a patch, pixels; what is left of ``image_size`` at the right and below is not looked at.
        width: Channels of a token.
        depth: Blocks in the published tower; blocks after ``read_block`` are never built.
        heads: Attention heads; divides ``width``.
        mlp_dim: Hidden width of the MLP.
        norm_eps: LayerNorm epsilon.
        activation: ``gelu_tanh`` (transformers' SigLIP), ``gelu`` (timm's SigLIP, DINOv2) or ``quick_gelu``
            (CLIP).
        class_token: A CLS token stands in front of the patches; never returned.
        register_tokens: Register tokens after CLS; never returned.
        position_on_prefix: The position table has a row for CLS too (CLIP); else patches only.
        patch_bias: The patch embedding has a bias (CLIP has none).
        qkv_bias: q, k and v have biases.
        pre_norm: LayerNorm before the first block (CLIP).
        layer_scale: A learned scale on each residual branch (DINOv2).
        final_norm: LayerNorm after the block that is read.
        read_block: Index of the block whose output is returned; negative counts from the end (OpenVLA: -2).
        pixel_mean: Mean that is subtracted from each channel, for pixels in 0..1.
        pixel_std: Standard deviation that each channel is divided by, for pixels in 0..1.
    """

    image_size: int
    patch_size: int
    width: int
    depth: int
    heads: int
    mlp_dim: int
    norm_eps: float = 1e-6
    activation: str = "gelu_tanh"
    class_token: bool = False
    register_tokens: int = 0
    position_on_prefix: bool = False
    patch_bias: bool = True
    qkv_bias: bool = True
    pre_norm: bool = False
    layer_scale: bool = False
    final_norm: bool = True
    read_block: int = -1
    pixel_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    pixel_std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @property
    def side(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """Tokens returned for one image."""
        return self.side**2

    @property
    def patches(self) -> int:
        """Patches of one picture: all of them are returned."""
        return self.tokens

    @property
    def run_blocks(self) -> int:
        """Blocks that run."""
        return self.blocks

    @property
    def picture_size(self) -> tuple[int, int]:
        """Height and width of one picture, pixels."""
        return self.image_size, self.image_size

    @property
    def token_size(self) -> int:
        """Side of a visual token, pixels: that of a patch."""
        return self.patch_size

    @property
    def patch_values(self) -> int:
        """Numbers that the embedding of a patch multiplies."""
        return 3 * self.patch_size**2

    @property
    def mlp_products(self) -> int:
        """Multiply-accumulates of a block's MLP for one token."""
        return 2 * self.width * self.mlp_dim

    def attended_pairs(self, block: int, patches: int) -> int:
        """Return how many pairs of query and key a block forms: every token sees every other."""
        del block
        return (patches + self.prefix_tokens) ** 2

    @property
    def prefix_tokens(self) -> int:
        """CLS and register tokens, dropped from the output."""
        return int(self.class_token) + self.register_tokens

    @property
    def windowed_blocks(self) -> frozenset[int]:
        """Blocks where a patch attends to the patches of its window alone: none here."""
        return frozenset()

    @property
    def deep_blocks(self) -> tuple[int, ...]:
        """Blocks whose output goes on to decoder layers too: none here."""
        return ()

    @property
    def blocks(self) -> int:
        """Blocks that run."""
        return range(self.depth)[self.read_block] + 1


class PatchEmbedding(nn.Module):
    """Non-overlapping patches to tokens: a convolution with stride = kernel, as one matrix product."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        size = config.patch_size
        self.proj = nn.Conv2d(3, config.width, size, stride=size, bias=config.patch_bias)

    def forward(self, patches: Tensor) -> Tensor:
        """(images, patches, patch_size * patch_size * 3) from :func:`patchify` -> (images, patches, width)."""
        weight = self.proj.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(patches, weight, self.proj.bias)


Extend: TypeAlias = Callable[[Tensor], Tensor]
"""From keys and values of the tokens that a block computes, ``(images, tokens, 2 * width)`` side by side, to those that
they attend to, ``(images, attended, 2 * width)``."""


class BlockOutput(NamedTuple):
    """What one block gives. Attention rows are computed from query and key where a policy asks.

    Args:
        hidden: Tokens after the block, ``(images, tokens, width)``.
        query: Queries, ``(images, heads, tokens, head_dim)``.
        key: Keys that are attended to, ``(images, heads, attended, head_dim)``: those of the tokens, or more.
    """

    hidden: Tensor
    query: Tensor
    key: Tensor


class VisionAttention(nn.Module):
    """Full self-attention with one fused qkv projection."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.qkv_bias)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, extend: Extend | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(images, tokens, width) -> same, and query and key, ``(images, heads, tokens or attended, head_dim)``."""
        if extend is None:
            query, key, value = self._by_head(self.qkv(x), 3)
        else:
            width = x.shape[-1]
            asking, known = self.qkv(x).split((width, 2 * width), dim=-1)
            (query,), (key, value) = self._by_head(asking, 1), self._by_head(extend(known), 2)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2)), query, key

    def _by_head(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(images, tokens, parts * width) -> ``(images, heads, tokens, head_dim)`` for each part."""
        return x.unflatten(-1, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


class VisionMlp(nn.Module):
    """Linear, activation, Linear."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.activation = activation(config.activation)
        self.fc1 = nn.Linear(config.width, config.mlp_dim)
        self.fc2 = nn.Linear(config.mlp_dim, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same."""
        projected: Tensor = self.fc2(self.activation(self.fc1(x)))
        return projected


class LayerScale(nn.Module):
    """A learned factor for each channel of a residual branch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale_factor = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same."""
        return x * self.scale_factor


class VisionBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attn = VisionAttention(config)
        self.ls1 = LayerScale(config.width) if config.layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = VisionMlp(config)
        self.ls2 = LayerScale(config.width) if config.layer_scale else nn.Identity()

    def forward(self, x: Tensor, extend: Extend | None = None) -> BlockOutput:
        """Run one block on ``(images, tokens, width)``; ``extend`` adds keys and values that others left."""
        mixed, query, key = self.attn(self.norm1(x), extend)
        x = x + self.ls1(mixed)
        return BlockOutput(x + self.ls2(self.mlp(self.norm2(x))), query, key)


class VisionTransformer(nn.Module):
    """A tower: images to one token per patch.

    Source:
        ViT (2010.11929), SigLIP (2303.15343), DINOv2 registers (2309.16588), CLIP (2103.00020); switches as
        found in timm's and transformers' code.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        positions = config.tokens + (int(config.class_token) if config.position_on_prefix else 0)
        if config.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        if config.register_tokens:
            self.reg_token = nn.Parameter(torch.zeros(1, config.register_tokens, config.width))
        self.patch_embed = PatchEmbedding(config)
        self.pos_embed = nn.Parameter(torch.zeros(1, positions, config.width))
        norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.norm_pre = norm if config.pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps) if config.final_norm else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images.

        Args:
            images: float ``(images, 3, image_size, image_size)``, already shifted and scaled.

        Returns:
            ``(images, tokens, width)``, patches in row-major order, CLS and registers dropped.
        """
        return self._encode(self._begin(patchify(images.permute(0, 2, 3, 1), self.config.patch_size)))

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Encode camera images; the tower normalises them.

        Args:
            pixels: float ``(images, image_size, image_size, 3)``, RGB, 0 to 255.

        Returns:
            ``(images, tokens, width)``, patches in row-major order, CLS and registers dropped.
        """
        return self._encode(self.begin(pixels))

    def begin(self, pixels: Tensor) -> Tensor:
        """Embed camera images: what the first block takes.

        Args:
            pixels: float ``(images, image_size, image_size, 3)``, RGB, 0 to 255.

        Returns:
            ``(images, prefix_tokens + tokens, width)``.
        """
        patches = patchify(pixels, self.config.patch_size)
        values = self.config.patch_size**2
        scale = [1 / (255 * std) for std in self.config.pixel_std] * values
        shift = [
            mean / std for mean, std in zip(self.config.pixel_mean, self.config.pixel_std, strict=True)
        ] * values
        return self._begin(patches * patches.new_tensor(scale) - patches.new_tensor(shift))

    def finish(self, x: Tensor) -> Tensor:
        """Turn what the last block gave into ``(images, tokens, width)``: norm, CLS and registers dropped."""
        tokens: Tensor = self.norm(x)[:, self.config.prefix_tokens :]
        return tokens

    def _begin(self, patches: Tensor) -> Tensor:
        embedded: Tensor = self.norm_pre(self._with_prefix(self.patch_embed(patches)))
        return embedded

    def _encode(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x).hidden
        return self.finish(x)

    def _with_prefix(self, patches: Tensor) -> Tensor:
        """Add positions and put CLS and registers in front."""
        images = patches.shape[0]
        if not self.config.prefix_tokens:
            return patches + self.pos_embed
        prefix = [self.cls_token.expand(images, -1, -1)] if self.config.class_token else []
        if self.config.position_on_prefix:
            whole = torch.cat([*prefix, patches], dim=1) + self.pos_embed
            prefix, patches = [whole[:, : len(prefix)]], whole[:, len(prefix) :]
        else:
            patches = patches + self.pos_embed
        if self.config.register_tokens:
            prefix.append(self.reg_token.expand(images, -1, -1))
        return torch.cat([*prefix, patches], dim=1)


def patchify(images: Tensor, size: int) -> Tensor:
    """(images, height, width, channels) -> (images, patches, size * size * channels), row-major, any dtype.

    Pixels that fill no patch are dropped at the right and below, as by a convolution (SigLIP: 384 = 27 * 14 + 6).
    """
    count, height, width, channels = images.shape
    rows, columns = height // size, width // size
    if (rows * size, columns * size) != (height, width):
        images = images[:, : rows * size, : columns * size]
    tiles = images.reshape(count, rows, size, columns, size * channels)
    return tiles.transpose(2, 3).reshape(count, -1, size * size * channels)
