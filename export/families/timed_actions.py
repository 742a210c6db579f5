"""Flow families whose noisy actions and their time go through one MLP, and whose state is embedded: π0 and SmolVLA."""

from __future__ import annotations

from torch import Tensor, nn

from saccade.export.families.base import Work
from saccade.export.families.flow_family import FlowFamily
from saccade.export.models.expert import ActionTimeMlp


class TimedActions(FlowFamily):
    """A flow family with an :class:`ActionTimeMlp` and a linear layer for the robot's state.

    Attributes:
        action_time: Noisy actions and time to tokens of the action expert.
        state_proj: The robot's state to one token.
    """

    action_time: ActionTimeMlp
    state_proj: nn.Linear

    @property
    def action_parts(self) -> tuple[nn.Module, ...]:
        """What embeds noisy actions, and what reads velocities."""
        return self.action_time, self.action_out_proj

    @property
    def action_embedding(self) -> Work:
        """What embedding one noisy action takes: the time's half of the MLP is folded."""
        return Work(self.action_time.action_products, self.action_time.action_parameters)

    @property
    def state_part(self) -> nn.Linear:
        """What embeds the robot's state."""
        return self.state_proj

    def fold_time(self, embeddings: Tensor) -> Tensor:
        """Return what each step's time adds inside the MLP that embeds actions, ``(steps, expert_width)``."""
        return self.action_time.fold(embeddings)

    def embed_actions(self, x: Tensor, time: Tensor) -> Tensor:
        """Noisy actions ``(batch, chunk, action_dim)``, row of constants -> tokens ``(batch, chunk, expert_width)``."""
        tokens: Tensor = self.action_time(x, time)
        return tokens
