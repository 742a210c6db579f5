"""The L1 action head of OpenVLA-OFT, and its small projectors. Parameter names are the published code's."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + ReLU(Linear(LayerNorm(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same."""
        out: Tensor = x + self.ffn(x)
        return out


class ActionHead(nn.Module):
    """Regresses one action from the concatenated states of its tokens.

    LayerNorm -> Linear -> ReLU -> residual blocks -> LayerNorm -> Linear.

    Args:
        width: Decoder width; also the head's hidden width.
        action_dim: Tokens per action, and numbers per action.
        blocks: Residual blocks.

    Source:
        OpenVLA-OFT (2502.19645), ``L1RegressionActionHead`` at moojink/openvla-oft 213c5ff.
    """

    def __init__(self, width: int, action_dim: int, blocks: int = 2) -> None:
        super().__init__()
        self.action_dim = action_dim
        self.model = nn.ModuleDict(
            OrderedDict(
                layer_norm1=nn.LayerNorm(width * action_dim),
                fc1=nn.Linear(width * action_dim, width),
                mlp_resnet_blocks=nn.ModuleList(ResidualBlock(width) for _ in range(blocks)),
                layer_norm2=nn.LayerNorm(width),
                fc2=nn.Linear(width, action_dim),
            )
        )

    def forward(self, states: Tensor) -> Tensor:
        """(batch, chunk * action_dim, width) -> (batch, chunk, action_dim), normalised actions."""
        model = self.model
        batch, tokens, width = states.shape
        x = states.reshape(batch, tokens // self.action_dim, self.action_dim * width)
        x = F.relu(model["fc1"](model["layer_norm1"](x)))
        for block in model["mlp_resnet_blocks"]:  # type: ignore[attr-defined]
            x = block(x)
        actions: Tensor = model["fc2"](model["layer_norm2"](x))
        return actions


class MlpProjector(nn.Module):
    """Linear layers ``fc1, fc2, ...`` with exact GELU between them.

    Used for vision -> decoder (two layers for a single tower, three for a fused one) and for proprioception.
    """

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.depth = len(widths) - 1
        for index in range(self.depth):
            self.add_module(f"fc{index + 1}", nn.Linear(widths[index], widths[index + 1]))

    def forward(self, x: Tensor) -> Tensor:
        """(..., widths[0]) -> (..., widths[-1])."""
        for index in range(self.depth):
            x = self.get_submodule(f"fc{index + 1}")(F.gelu(x) if index else x)
        return x
