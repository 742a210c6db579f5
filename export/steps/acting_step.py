"""A control step with a token-selection policy in it, as one exportable module: what all families that act share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, TypeVar

from torch import Tensor

from saccade.export.families.base import ActingFamily
from saccade.export.lowering.capture import GraphPorts
from saccade.export.steps.selecting_module import Named, SelectingModule
from saccade.export.steps.tower_memory import AGES, reuses_towers
from saccade.policies.base import Carry
from saccade.proto.tensor_names import ACTIONS, CARRY_OUTPUT_SUFFIX, ENCODED_AGES, FATE, KEPT

ActingT_co = TypeVar("ActingT_co", bound=ActingFamily, covariant=True)


class StepOutputs(NamedTuple):
    """What one control step gives.

    Args:
        actions: Normalised actions, float32 ``(batch, chunk, action_dim)``.
        kept: int64 ``(batch, keep)``, original visual indices, ascending: what survived the last cut that kept any.
        fate: int64 ``(batch, tokens)``: for each visual token the original index of the survivor that carries it
            (itself if it was kept), -1 if it was dropped. Follows merges only if the policy merges.
        carry: Tensors for the next control step, by name.
        action_states: Final states that the actions were read from, ``(batch, rows, width)``.
    """

    actions: Tensor
    kept: Tensor
    fate: Tensor
    carry: Carry
    action_states: Tensor


class ActingStep(SelectingModule[ActingT_co], ABC):
    """One control step at a fixed budget of visual tokens; takes what :class:`SelectingModule` takes.

    What a kind of family adds is :meth:`step`: how an observation becomes actions, with the policy's cuts in between.
    """

    @property
    def host_inputs(self) -> tuple[str, ...]:
        """Names of what the host fills, in the graph's order."""
        return self.family.host_inputs

    @property
    def ports(self) -> GraphPorts:
        """Names of the graph's inputs and outputs, in the order of :meth:`forward`."""
        carry = tuple(spec.name for spec in self.carry_specs)
        following = tuple(name + CARRY_OUTPUT_SUFFIX for name in carry)
        return GraphPorts(
            (*self.host_inputs, *self.task_inputs, *carry), (ACTIONS, KEPT, *self.told, *following)
        )

    @property
    def told(self) -> tuple[str, ...]:
        """Names of what is told of every visual token, in the graph's order."""
        fate = (FATE,) if self.tells_fate else ()
        return (*fate, ENCODED_AGES) if reuses_towers(self.policy) else fate

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run one control step on flat tensors, as the graph does.

        Args:
            inputs: What the host fills, in the order of :attr:`host_inputs`; ``task_inputs``; the carry.

        Returns:
            actions, kept, fate and ages if they are told, and the next carry.
        """
        return self.flat(self.outputs(inputs))

    def outputs(self, inputs: tuple[Tensor, ...]) -> StepOutputs:
        """Run one control step on flat tensors, in the order of :meth:`forward`."""
        host = len(self.host_inputs)
        return self.step(inputs[:host], self.named(inputs[host:]))

    def flat(self, out: StepOutputs) -> tuple[Tensor, ...]:
        """Return what the graph gives, in its order: actions, kept, what is told of tokens, and the next carry."""
        told = (out.carry[AGES].long() if name == ENCODED_AGES else out.fate for name in self.told)
        return out.actions, out.kept, *told, *(out.carry[spec.name] for spec in self.carry_specs)

    @abstractmethod
    def step(self, observed: tuple[Tensor, ...], named: Named) -> StepOutputs:
        """Run one control step.

        Args:
            observed: What the host fills, in the order of :attr:`host_inputs`.
            named: Task tensors and carry, by name.
        """
