"""An expert layer that attends to a prefix alone, through projections of its own. Parameter names are transformers'."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from saccade.export.models.decoder import DecoderConfig, DecoderMlp, RmsNorm, repeat_heads
from saccade.export.models.expert import ExpertOutput, LayerContext


class CrossAttention(nn.Module):
    """Grouped-query attention to keys and values that a prefix layer left.

    What :meth:`project` gives follows from the prefix alone, so it is computed once for all denoising steps.

    Args:
        config: Switches of the expert; the prefix has the same kv heads and head_dim.

    Source:
        SmolVLA (2506.01844), ``forward_cross_attn_layer`` at lerobot 0.6.1.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        heads_dim, kv_dim = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.width, heads_dim, bias=False)
        self.k_proj = nn.Linear(kv_dim, kv_dim, bias=False)
        self.v_proj = nn.Linear(kv_dim, kv_dim, bias=False)
        self.o_proj = nn.Linear(heads_dim, config.width, bias=False)

    def project(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Turn the prefix layer's keys, after rotary, and values into this layer's: all four of one shape.

        Args:
            key: Keys of the prefix layer, after rotary, ``(batch, kv_heads, prefix, head_dim)``.
            value: Values of the prefix layer, ``(batch, kv_heads, prefix, head_dim)``.
        """
        return self._mix(self.k_proj, key), self._mix(self.v_proj, value)

    def forward(self, x: Tensor, context: LayerContext) -> tuple[Tensor, Tensor]:
        """(batch, suffix, width) -> same, and rotated queries ``(batch, heads, suffix, head_dim)``.

        ``context`` holds keys and values from :meth:`project` and a bias that covers the prefix alone.
        """
        query = context.rotary.apply(self.q_proj(x).unflatten(-1, (self.config.heads, -1)).transpose(1, 2))
        group = self.config.heads // self.config.kv_heads
        key, value = repeat_heads(context.key, group), repeat_heads(context.value, group)
        heads = F.scaled_dot_product_attention(query, key, value, attn_mask=context.bias)
        mixed: Tensor = self.o_proj(heads.transpose(1, 2).flatten(2))
        return mixed, query

    def _mix(self, projection: nn.Module, x: Tensor) -> Tensor:
        """Project all heads together: (batch, kv_heads, prefix, head_dim) -> same."""
        mixed: Tensor = projection(x.transpose(1, 2).flatten(2))
        return mixed.unflatten(-1, (self.config.kv_heads, -1)).transpose(1, 2)


class CrossLayer(nn.Module):
    """Pre-norm attention to a prefix, and MLP.

    Args:
        config: Switches of the expert; the prefix has the same kv heads and head_dim.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(config.width, config.norm_eps)
        self.self_attn = CrossAttention(config)
        self.post_attention_layernorm = RmsNorm(config.width, config.norm_eps)
        self.mlp = DecoderMlp(config)

    @property
    def prefix_projections(self) -> tuple[nn.Module, ...]:
        """What projects the prefix once for all steps; the layer's queries attend to nothing else."""
        return self.self_attn.k_proj, self.self_attn.v_proj

    def forward(
        self, hidden: Tensor, context: LayerContext, modulations: Tensor | None = None
    ) -> ExpertOutput:
        """Run one layer.

        Args:
            hidden: Tokens of the expert, ``(batch, suffix, width)``.
            context: Keys and values from :meth:`CrossAttention.project`; ``bias`` covers the prefix alone, float32
                ``(batch, 1, 1, prefix)``; ``rotary`` turns the queries.
            modulations: None here: the layer's norms have weights.
        """
        mixed, query = self.self_attn(self.input_layernorm(hidden), context)
        hidden = hidden + mixed
        written = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return ExpertOutput(written, query, context.key)
