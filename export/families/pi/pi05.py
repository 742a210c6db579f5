"""π0.5: as π0, but the robot's state is text and time modulates every norm of the expert.

    prefix: [visual: views * patches] [BOS, "Task: ..., State: 12 255 ...; / Action: ", padded on the right]
    suffix: [actions]             which see everything

The prompt changes with every control step: see :mod:`saccade.proto.state_text`. All modulations follow from
time alone and are constants here; the weights behind them are given up.

Source:
    π0.5 (2504.16054) as in lerobot 0.6.1's ``PI05Policy``. Pictures, actions and cameras as in π0; state and actions
    are normalised by quantiles.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.export.families.base import Work
from saccade.export.families.deployment import Deployment
from saccade.export.families.pi.config import PiConfig, pi_key_rules, read_pi_config
from saccade.export.families.pi.model import PiModel
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.key_rules import KeyRules
from saccade.export.models.expert import in_double

MODEL_TYPE = "pi05"
PROMPT_TOKENS = 200
"""Length that the published processors pad the prompt to, tokens."""


def read_config(folder: CheckpointFolder, deployment: Deployment) -> PiConfig:
    """Read the configuration of a π0.5 checkpoint, whether transformers, lerobot or openpi's conversion wrote it.

    Args:
        folder: The checkpoint that is read.
        deployment: How the model will be used; nothing stands before or between pictures here.

    Raises:
        CheckpointError: A file or field is missing or wrong, or asks for what is not known here.
    """
    return read_pi_config(folder, deployment, MODEL_TYPE)


def key_rules(config: PiConfig) -> KeyRules:
    """Return how stored weights come to our names."""
    return pi_key_rules(config)


class Pi05(PiModel):
    """The π0.5 model."""

    host_inputs = ("images", "token_ids", "attention_mask", "position_ids", "noise")

    def __init__(self, config: PiConfig) -> None:
        super().__init__(config, adaptive=True, suffix_order=(0,) * config.flow.chunk)
        width = config.expert.width
        self.action_in_proj = nn.Linear(config.flow.action_dim, width)
        self.time_mlp_in = nn.Linear(width, width)
        self.time_mlp_out = nn.Linear(width, width)

    @property
    def action_parts(self) -> tuple[nn.Module, ...]:
        """What embeds noisy actions, and what reads velocities."""
        return self.action_in_proj, self.action_out_proj

    @property
    def action_embedding(self) -> Work:
        """What embedding one noisy action takes; time comes in through the norms."""
        weight, bias = self.action_in_proj.weight, self.action_in_proj.bias
        return Work(weight.numel(), weight.numel() + bias.numel())

    def fold_time(self, embeddings: Tensor) -> Tensor:
        """Return each step's modulations of every norm, ``(steps, norms, 3, expert_width)``."""
        hidden = F.silu(in_double(self.time_mlp_in, embeddings))
        conditions = F.silu(in_double(self.time_mlp_out, hidden))
        del self.time_mlp_in, self.time_mlp_out
        return self.expert.fold(conditions)

    def embed_actions(self, x: Tensor, time: Tensor) -> Tensor:
        """Noisy actions (batch, chunk, action_dim) -> (batch, chunk, expert_width); time comes in through norms."""
        tokens: Tensor = self.action_in_proj(x)
        return tokens

    def modulations(self, time: Tensor) -> Tensor:
        """Return one row of constants as it is: modulations of every norm, float32 ``(norms, 3, expert_width)``."""
        return time


def build(config: PiConfig) -> Pi05:
    """Return the model without its weights, on the meta device."""
    with torch.device("meta"):
        return Pi05(config)
