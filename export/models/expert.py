"""The action expert of flow-matching models: decoder layers that attend to a prefix as well as to themselves.

A prefix (what the robot sees and is told) runs once through its own decoder; each expert layer then joins the keys and
values of the prefix layer at its height to its own. Parameter names are transformers' (``layers.N.self_attn.q_proj``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.export.models.decoder import DecoderAttention, DecoderConfig, DecoderMlp, RmsNorm, Rotary


class LayerContext(NamedTuple):
    """What one expert layer knows beside its own tokens; the same in every denoising step.

    Args:
        key: Keys of the prefix, after rotary, ``(batch, kv_heads, prefix, head_dim)``.
        value: Values of the prefix, ``(batch, kv_heads, prefix, head_dim)``.
        bias: Added to the logits of ``[prefix keys; own keys]``, float32 ``(batch, 1, suffix, prefix + suffix)``.
        rotary: Rotary tables of the expert's own tokens.
    """

    key: Tensor
    value: Tensor
    bias: Tensor
    rotary: Rotary

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Put the prefix before an expert layer's own keys and values."""
        return torch.cat([self.key, key], dim=2), torch.cat([self.value, value], dim=2)


class ExpertOutput(NamedTuple):
    """What one expert layer gives.

    Args:
        hidden: The expert's tokens after the layer, ``(batch, suffix, width)``.
        query: Queries after rotary, ``(batch, heads, suffix, head_dim)``.
        key: Keys that were attended to, prefix first, after rotary, ``(batch, kv_heads, prefix + own, head_dim)``.
    """

    hidden: Tensor
    query: Tensor
    key: Tensor


Watch: TypeAlias = Callable[[int, ExpertOutput], None]
"""A callback that is told each layer's index and what the layer gave."""


class AdaptiveNorm(nn.Module):
    """RMSNorm whose scale, shift and gate follow from a condition: x / sqrt(mean(x^2) + eps) * (1 + scale) + shift.

    The gate multiplies what the branch behind the norm gives. The condition is time alone, so :meth:`fold` turns the
    linear layer into one modulation for each step: float32 ``(3, width)``, rows ``1 + scale``, shift and gate.

    Source:
        π0.5 (2504.16054), ``PiGemmaRMSNorm`` at lerobot 0.6.1.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.dense = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """(..., width) -> same, in the dtype of ``x``."""
        wide = x.float()
        normed = wide / torch.sqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (normed * modulation[0] + modulation[1]).to(x.dtype)

    def fold(self, conditions: Tensor) -> Tensor:
        """Give up the linear layer for its modulations: float64 ``(steps, width)`` -> ``(steps, 3, width)``."""
        scale, shift, gate = in_double(self.dense, conditions).chunk(3, dim=-1)
        del self.dense
        return torch.stack([1 + scale, shift, gate], dim=1).float()


class ExpertLayer(nn.Module):
    """Pre-norm attention over ``[prefix; own tokens]`` and MLP.

    Args:
        config: Width and MLP are the expert's own; heads, kv heads and head_dim are the prefix decoder's.
        adaptive: The layer's norms are modulated instead of weighted.
    """

    prefix_projections: tuple[nn.Module, ...] = ()
    """What projects the prefix once for all steps: nothing, its keys and values are taken as they are."""

    def __init__(self, config: DecoderConfig, *, adaptive: bool = False) -> None:
        super().__init__()
        self.input_layernorm = expert_norm(config, adaptive=adaptive)
        self.self_attn = DecoderAttention(config)
        self.post_attention_layernorm = expert_norm(config, adaptive=adaptive)
        self.mlp = DecoderMlp(config)

    def forward(
        self, hidden: Tensor, context: LayerContext, modulations: Tensor | None = None
    ) -> ExpertOutput:
        """Run one layer.

        Args:
            hidden: The expert's tokens before the layer, ``(batch, suffix, width)``.
            context: Keys and values of the prefix at this layer, with the bias and rotary tables that go with them.
            modulations: Scale, shift and gate of the layer's two norms, float32 ``(2, 3, width)``; None where they have
                weights.
        """
        first, second = (None, None) if modulations is None else modulations.unbind(0)
        normed = _normed(self.input_layernorm, hidden, first)
        mixed = self.self_attn(normed, context.rotary, context.bias, extend=context.extend)
        hidden = hidden + _gated(mixed.projected, first)
        wrote = self.mlp(_normed(self.post_attention_layernorm, hidden, second))
        return ExpertOutput(hidden + _gated(wrote, second), mixed.query, mixed.key)


class Expert(nn.Module):
    """Layers and final norm.

    Args:
        layers: Expert layers, each called as :class:`ExpertLayer` is.
        norm: Norm behind the last layer, weighted or modulated as theirs are.
    """

    def __init__(self, layers: Iterable[nn.Module], norm: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm

    def forward(
        self,
        hidden: Tensor,
        contexts: Sequence[LayerContext],
        modulations: Tensor | None = None,
        watch: Watch | None = None,
    ) -> Tensor:
        """Run every layer and the final norm.

        Args:
            hidden: The expert's tokens, ``(batch, suffix, width)``.
            contexts: What each layer knows beside its own tokens, one for each layer.
            modulations: Scale, shift and gate of every norm in the order in which they run, float32 ``(2 * layers + 1,
                3, width)``; None where norms have weights.
            watch: Told what each layer gave.

        Returns:
            The expert's final states, ``(batch, suffix, width)``.
        """
        for index, (layer, context) in enumerate(zip(self.layers, contexts, strict=True)):
            here = None if modulations is None else modulations[2 * index : 2 * index + 2]
            output: ExpertOutput = layer(hidden, context, here)
            hidden = output.hidden
            if watch is not None:
                watch(index, output)
        return _normed(self.norm, hidden, None if modulations is None else modulations[-1])

    @property
    def time_parameters(self) -> int:
        """Parameters that :meth:`fold` gives up."""
        norms = (module for module in self.modules() if isinstance(module, AdaptiveNorm))
        return sum(weight.numel() for norm in norms for weight in norm.parameters())

    def fold(self, conditions: Tensor) -> Tensor:
        """Fold every adaptive norm: float64 ``(steps, width)`` -> float32 ``(steps, norms, 3, width)``."""
        norms = [module for module in self.modules() if isinstance(module, AdaptiveNorm)]
        return torch.stack([norm.fold(conditions) for norm in norms], dim=1)


class ActionTimeMlp(nn.Module):
    """Noisy actions and their time to tokens: out(silu(in([project(x); time])), the time's half of ``in`` folded.

    Args:
        action_dim: Numbers in an action.
        width: Channels of the expert's tokens.

    Source:
        π0 (2410.24164); SmolVLA (2506.01844) has the same.
    """

    def __init__(self, action_dim: int, width: int) -> None:
        super().__init__()
        self.action_in_proj = nn.Linear(action_dim, width)
        self.action_time_mlp_in = nn.Linear(2 * width, width)
        self.action_time_mlp_out = nn.Linear(width, width)

    @property
    def action_products(self) -> int:
        """Multiply-accumulates for one action once time is folded."""
        width, action_dim = self.action_in_proj.weight.shape
        return width * action_dim + 2 * width**2

    @property
    def action_parameters(self) -> int:
        """Parameters that are read for actions once time is folded."""
        return self.action_products + 2 * self.action_in_proj.out_features

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Embed actions after :meth:`fold`: ``(batch, chunk, action_dim)`` and ``(width,)`` of one step."""
        hidden = self.action_time_mlp_in(self.action_in_proj(x)) + time
        tokens: Tensor = self.action_time_mlp_out(F.silu(hidden))
        return tokens

    def fold(self, embeddings: Tensor) -> Tensor:
        """Cut the layer's time half off: float64 embeddings ``(steps, width)`` -> what it adds, float32, same shape."""
        whole = self.action_time_mlp_in
        of_action, of_time = whole.weight.chunk(2, dim=1)
        added = embeddings @ of_time.double().T + whole.bias.double()
        width = whole.out_features
        self.action_time_mlp_in = nn.Linear(width, width, bias=False, device="meta")
        self.action_time_mlp_in.weight = nn.Parameter(of_action.clone())
        return added.float()


def in_double(linear: nn.Linear, x: Tensor) -> Tensor:
    """Apply a layer in float64 to float64 ``(rows, in)``; the layer stays as it is, and mapped weights are read."""
    return F.linear(x, linear.weight.double(), linear.bias.double())


def expert_norm(config: DecoderConfig, *, adaptive: bool) -> nn.Module:
    """Return a norm of the expert's width: modulated, or weighted."""
    return (AdaptiveNorm if adaptive else RmsNorm)(config.width, config.norm_eps)


def _normed(norm: nn.Module, x: Tensor, modulation: Tensor | None) -> Tensor:
    normed: Tensor = norm(x) if modulation is None else norm(x, modulation)
    return normed


def _gated(branch: Tensor, modulation: Tensor | None) -> Tensor:
    return branch if modulation is None else (branch * modulation[2]).to(branch.dtype)
