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

import torch
from torch import Tensor, nn

from saccade.export.families.deployment import Deployment
from saccade.export.families.flow_family import as_state
from saccade.export.families.pi.config import PiConfig, pi_key_rules, read_pi_config
from saccade.export.families.pi.model import PiModel
from saccade.export.families.timed_actions import TimedActions
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.key_rules import KeyRules
from saccade.export.models.expert import ActionTimeMlp

MODEL_TYPE = "pi0"
PROMPT_TOKENS = 48
"""Length that the published processors pad the prompt to, tokens."""


def read_config(folder: CheckpointFolder, deployment: Deployment) -> PiConfig:
    """Read the configuration of a π0 checkpoint, whether transformers, lerobot or openpi's conversion wrote it.

    Args:
        folder: The checkpoint that is read.
        deployment: How the model will be used; nothing stands before or between pictures here.

    Raises:
        CheckpointError: A file or field is missing or wrong, or asks for what is not known here.
    """
    return read_pi_config(folder, deployment, MODEL_TYPE)


def key_rules(config: PiConfig) -> KeyRules:
    """Return how stored weights come to our names."""
    rules = pi_key_rules(config)
    into_mlp = (r"^(action_in_proj|action_time_mlp_in|action_time_mlp_out)\.", r"action_time.\1.")
    return replace(rules, rename=(*rules.rename, into_mlp))


class Pi0(TimedActions, PiModel):
    """The π0 model."""

    def __init__(self, config: PiConfig) -> None:
        super().__init__(config, adaptive=False, suffix_order=(0, *[1] * config.flow.chunk))
        width = config.expert.width
        self.state_proj = nn.Linear(config.state_width, width)
        self.action_time = ActionTimeMlp(config.flow.action_dim, width)

    def embed_lead(self, state: Tensor | None) -> Tensor | None:
        """Normalised state, float32 ``(batch, state_dim)`` -> the suffix's first token ``(batch, 1, expert_width)``."""
        assert state is not None  # noqa: S101 - the host gives it
        return as_state(self.state_proj, state)


def build(config: PiConfig) -> Pi0:
    """Return the model without its weights, on the meta device."""
    with torch.device("meta"):
        return Pi0(config)
