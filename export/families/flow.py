"""What all families share that draw their actions out of noise: a prefix that runs once, an expert that runs per step.

    prefix: [visual] [text ...]            through the decoder -> keys and values of every layer
    suffix: [lead: e.g. the robot's state] [actions]   through the expert, which attends to [prefix; suffix]

Actions x start as noise at time 1 and follow the expert's velocity down to time 0 in Euler steps. Whatever depends on
time alone is folded into constants, one row for each step, so that a step's graph has no time in it: only that row.

Source:
    Flow matching as in π0 (2410.24164); times and their sines as in lerobot 0.6.1 (``euler_integrate``,
    ``create_sinusoidal_pos_embedding``).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence as Several
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from saccade.export.families.sequence import Sequence
from saccade.export.models.cross_expert import CrossLayer
from saccade.export.models.decoder import MASKED_LOGIT, Decoder, DecoderLayer, Rotary
from saccade.export.models.expert import Expert, ExpertLayer, LayerContext, Watch


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """How actions come out of noise.

    Args:
        chunk: Actions in a chunk.
        action_dim: Numbers in an action, padding to the model's width included.
        steps: Euler steps.
        min_period: Period of the time embedding's fastest sine; time runs from 1 to 0.
        max_period: Period of the time embedding's slowest sine.
    """

    chunk: int
    action_dim: int
    steps: int = 10
    min_period: float = 4e-3
    max_period: float = 4.0


class LayerMemory(NamedTuple):
    """What one prefix layer leaves to the expert layer at its height.

    Args:
        key: Keys after rotary, ``(batch, kv_heads, tokens, head_dim)``; only of tokens that are alive at this layer.
        value: Values of the same tokens, ``(batch, kv_heads, tokens, head_dim)``.
        mask: bool ``(batch, tokens)``, False at padding and at views that are absent.
    """

    key: Tensor
    value: Tensor
    mask: Tensor


class Observed(NamedTuple):
    """What all denoising steps of one control step share.

    Args:
        contexts: What each expert layer knows beside its own tokens, one for each layer.
        lead: Suffix tokens in front of the actions, ``(batch, lead, expert_width)``; None = there are none.
    """

    contexts: tuple[LayerContext, ...]
    lead: Tensor | None


class FlowModel(nn.Module, ABC):
    """A decoder for the prefix, an expert for the suffix, and the integration.

    :meth:`fold` comes after loading and before anything else.

    Args:
        flow: How actions come out of noise.
        decoder: Decoder of the prefix; nobody reads what its last layer writes, so it has no final norm.
        expert: Expert of the suffix, with as many layers as the decoder.
        expert_width: Channels of a suffix token.
        suffix_order: Order of each suffix token, lead first: a token sees those whose order is not higher than its own.
    """

    time_constants: Tensor
    """Constants that :meth:`fold` leaves: float32, one row for each step; :meth:`denoise` takes a row."""
    folded_parameters: int = 0
    """Parameters that :meth:`fold` gave up."""

    def __init__(
        self,
        flow: FlowConfig,
        decoder: Decoder,
        expert: Expert,
        expert_width: int,
        suffix_order: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.flow = flow
        self.suffix_order = suffix_order
        self.decoder = decoder
        self.expert = expert
        self.expert_width = expert_width
        self.action_out_proj = nn.Linear(expert_width, flow.action_dim)

    @abstractmethod
    def fold_time(self, embeddings: Tensor) -> Tensor:
        """Turn time embeddings, float64 ``(steps, expert_width)``, into constants and give up the weights they used.

        Returns:
            The constants, float32 ``(steps, ...)``, a row for each step.
        """

    @abstractmethod
    def embed_actions(self, x: Tensor, time: Tensor) -> Tensor:
        """Noisy actions ``(batch, chunk, action_dim)``, row of constants -> tokens ``(batch, chunk, expert_width)``."""

    def modulations(self, time: Tensor) -> Tensor | None:
        """Return what a row of constants says about the expert's norms; None where the norms have weights."""
        return None

    @torch.no_grad()
    def fold(self) -> None:
        """Fold time into constants; once, after the weights were loaded."""
        before = self._parameter_count()
        embeddings = time_embeddings(self.flow, self.expert_width).to(self.action_out_proj.weight.device)
        self.register_buffer("time_constants", self.fold_time(embeddings))
        self.folded_parameters = before - self._parameter_count()

    @property
    def expert_layers(self) -> tuple[ExpertLayer | CrossLayer, ...]:
        """The action expert's layers, one at the height of each decoder layer."""
        return cast("tuple[ExpertLayer | CrossLayer, ...]", tuple(self.expert.layers))

    def _parameter_count(self) -> int:
        return sum(weight.numel() for weight in self.parameters())

    def remember(self, prefix: Sequence) -> tuple[LayerMemory, ...]:
        """Run the prefix; of the last layer only keys and values, since nobody reads what it would write."""
        decoder = self.decoder
        rotary = decoder.rotary(prefix.positions)
        bias = decoder.attention_bias(prefix.mask, prefix.order, prefix.order)
        hidden, memory = prefix.hidden, []
        for layer in decoder.layers[:-1]:
            output = layer(hidden, rotary, bias)
            hidden = output.hidden
            memory.append(LayerMemory(output.attention.key, output.attention.value, prefix.mask))
        last = cast(DecoderLayer, decoder.layers[-1])
        normed = last.input_layernorm(hidden)
        key, value = rotary.apply(last.self_attn.keys(normed)), last.self_attn.values(normed)
        return (*memory, LayerMemory(key, value, prefix.mask))

    def observe(
        self, memory: Several[LayerMemory], suffix_positions: Tensor, lead: Tensor | None = None
    ) -> Observed:
        """Prepare what does not change between steps.

        Args:
            memory: What each prefix layer left; a policy may have left fewer tokens to later ones.
            suffix_positions: Rotary positions of the suffix, int64 ``(batch, suffix)``.
            lead: Suffix tokens in front of the actions, ``(batch, lead, expert_width)``; None = there are none.
        """
        rotary = self.decoder.rotary(suffix_positions)
        biases: dict[int, Tensor] = {}
        for layer in memory:
            if id(layer.mask) not in biases:
                biases[id(layer.mask)] = joint_bias(layer.mask, self.suffix_order)
        contexts = [
            self.context(index, layer, biases[id(layer.mask)], rotary) for index, layer in enumerate(memory)
        ]
        return Observed(tuple(contexts), lead)

    def context(self, index: int, memory: LayerMemory, bias: Tensor, rotary: Rotary) -> LayerContext:
        """Return what expert layer ``index`` makes of its prefix layer: here, joint attention over both."""
        return LayerContext(memory.key, memory.value, bias, rotary)

    def denoise(
        self, x: Tensor, time: Tensor, observed: Observed, watch: Watch | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the velocity of noisy actions, and the states that it was read from.

        Args:
            x: Noisy actions, float32 ``(batch, chunk, action_dim)``.
            time: Row of :attr:`time_constants` for the step.
            observed: What all steps share, from :meth:`observe`.
            watch: Told what each expert layer gave.

        Returns:
            Velocity, float32 ``(batch, chunk, action_dim)``; states, ``(batch, chunk, expert_width)``.
        """
        tokens = self.embed_actions(x.to(self.action_out_proj.weight.dtype), time)
        lead = observed.lead
        suffix = tokens if lead is None else torch.cat([lead, tokens], dim=1)
        states = self.expert(suffix, observed.contexts, self.modulations(time), watch)
        states = states if lead is None else states[:, lead.shape[1] :]
        velocity: Tensor = self.action_out_proj(states)
        return velocity.float(), states

    def integrate(
        self, noise: Tensor, observed: Observed, watch: Watch | None = None
    ) -> tuple[Tensor, Tensor]:
        """Integrate from noise to actions.

        Args:
            noise: float32 ``(batch, chunk, action_dim)``, standard normal.
            observed: What all steps share, from :meth:`observe`.
            watch: Told what each expert layer gave, in every step.

        Returns:
            Normalised actions, float32 ``(batch, chunk, action_dim)``, and the states that the last step's velocity was
            read from, ``(batch, chunk, expert_width)``.
        """
        x, step, states = noise, -1.0 / self.flow.steps, noise
        for time in self.time_constants.unbind(0):
            velocity, states = self.denoise(x, time, observed, watch)
            x = x + step * velocity
        return x, states

    def sample(self, noise: Tensor, observed: Observed) -> Tensor:
        """Integrate from noise, float32 ``(batch, chunk, action_dim)``, to normalised actions of the same shape."""
        return self.integrate(noise, observed)[0]


def time_embeddings(flow: FlowConfig, width: int) -> Tensor:
    """Return sines, then cosines of each step's time, float64 ``(steps, width)`` of float32 precision.

    The reference takes times in float32, angles and sines in float64, and rounds what comes out.
    """
    times = torch.tensor([1.0 + step * (-1.0 / flow.steps) for step in range(flow.steps)]).double()
    fraction = torch.linspace(0.0, 1.0, width // 2, dtype=torch.float64)
    period = flow.min_period * (flow.max_period / flow.min_period) ** fraction
    angles = times[:, None] * (2 * math.pi / period)
    return torch.cat([angles.sin(), angles.cos()], dim=1).float().double()


def joint_bias(mask: Tensor, suffix_order: tuple[int, ...]) -> Tensor:
    """Return what suffix rows add to the logits of ``[prefix; suffix]``: 0 where a key may be seen.

    Args:
        mask: Valid tokens of the prefix, bool ``(batch, prefix)``; suffix rows see all of those.
        suffix_order: A suffix row sees suffix tokens whose order is not higher than its own.

    Returns:
        float32 ``(batch, 1, suffix, prefix + suffix)``, ``MASKED_LOGIT`` where a key may not be seen.
    """
    order = torch.tensor(suffix_order, device=mask.device)
    among = order[None, :] <= order[:, None]
    rows = len(suffix_order)
    seen = torch.cat(
        [mask[:, None, :].expand(-1, rows, -1), among.expand(mask.shape[0], -1, -1)],
        dim=2,
    )
    return torch.where(seen, 0.0, MASKED_LOGIT).unsqueeze(1)
