"""π0: PaliGemma sees and reads, an expert draws a chunk of actions out of noise; the robot's state is an expert token.

    prefix: [visual: views * patches] [BOS, task, newline, padded on the right]
    suffix: [state] [actions]     the state sees the prefix and itself, actions see everything

Source:
    π0 (2410.24164) as in transformers' ``PI0ForConditionalGeneration`` and lerobot's ``PI0Policy``. Pictures are
    resized with their aspect kept and centred on black. State and actions are normalised and padded with zeros to the
    model's width. Fixed here: the number of cameras; absent ones are masked.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from saccade.export.families.deployment import Deployment
from saccade.export.families.pi import PiModel
from saccade.export.families.pi_checkpoint import PiConfig, pi_key_rules, read_pi_config
from saccade.export.loading.key_rules import KeyRules
from saccade.export.models.expert import ActionTimeMlp

MODEL_TYPE = "pi0"
PROMPT_TOKENS = 48
"""To which the published processors pad the prompt."""


def read_config(folder: Path, deployment: Deployment) -> PiConfig:
    """Read the configuration of a checkpoint; as :func:`read_pi_config`."""
    return read_pi_config(folder, deployment, MODEL_TYPE)


def key_rules(config: PiConfig) -> KeyRules:
    """Return how stored weights come to our names."""
    rules = pi_key_rules(config)
    into_mlp = (r"^(action_in_proj|action_time_mlp_in|action_time_mlp_out)\.", r"action_time.\1.")
    return replace(rules, rename=(*rules.rename, into_mlp))


class Pi0(PiModel):
    """The model."""

    def __init__(self, config: PiConfig) -> None:
        super().__init__(config, adaptive=False, suffix_order=(0, *[1] * config.flow.chunk))
        width = config.expert.width
        self.state_proj = nn.Linear(config.state_dim, width)
        self.action_time = ActionTimeMlp(config.flow.action_dim, width)

    def fold_time(self, embeddings: Tensor) -> Tensor:
        """Return what each step's time adds inside the MLP that embeds actions, ``(steps, expert_width)``."""
        return self.action_time.fold(embeddings)

    def embed_actions(self, x: Tensor, time: Tensor) -> Tensor:
        """(batch, chunk, action_dim) -> (batch, chunk, expert_width)."""
        tokens: Tensor = self.action_time(x, time)
        return tokens

    def embed_state(self, state: Tensor) -> Tensor:
        """Normalised state, float32 ``(batch, state_dim)`` -> the suffix's first token ``(batch, 1, expert_width)``."""
        token: Tensor = self.state_proj(state).unsqueeze(1)
        return token

    def forward(
        self,
        images: Tensor,
        state: Tensor,
        token_ids: Tensor,
        mask: Tensor,
        positions: Tensor,
        suffix_positions: Tensor,
        noise: Tensor,
    ) -> Tensor:
        """Run one control step with every visual token.

        Args:
            images: uint8 ``(batch, views, height, width, 3)``, RGB.
            state: float32 ``(batch, state_dim)``, normalised.
            token_ids: int64 ``(batch, max_text_tokens)``.
            mask: As :meth:`sequence_inputs` gives it.
            positions: The same.
            suffix_positions: The same.
            noise: float32 ``(batch, chunk, action_dim)``, standard normal.

        Returns:
            float32 ``(batch, chunk, action_dim)``, normalised actions.
        """
        memory = self.remember(self.perceive(images, token_ids, mask, positions))
        return self.sample(noise, self.observe(memory, suffix_positions, self.embed_state(state)))


def build(config: PiConfig) -> Pi0:
    """Return the model without its weights, on the meta device."""
    with torch.device("meta"):
        return Pi0(config)
