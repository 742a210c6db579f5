"""One profile of a bundle that answers: its two steps, its graphs and their ports."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from saccade.export.bundle.profile_plan import ProfilePlan
from saccade.export.lowering.capture import GraphPorts
from saccade.export.steps.generation_step import GenerationStep
from saccade.export.steps.prefill_step import PrefillStep
from saccade.proto.tensor_names import CARRY_OUTPUT_SUFFIX, FATE, KEPT, LOGITS, TOKEN, TOKEN_POSITION

_PROMPT_INPUTS = ("images", "token_ids", "attention_mask")


@dataclass(frozen=True)
class AnsweringPlan:
    """One profile of a bundle that answers.

    Args:
        profile: Name and budget.
        prefill: Step that reads the prompt.
        generation: Step of a further token.
    """

    profile: ProfilePlan
    prefill: PrefillStep
    generation: GenerationStep

    @property
    def prompt_graph(self) -> str:
        """Path of the prompt's graph."""
        return f"graphs/prompt.{self.profile.name}.onnx"

    @property
    def token_graph(self) -> str:
        """Path of the token's graph."""
        return f"graphs/token.{self.profile.name}.onnx"

    @property
    def caches(self) -> tuple[str, ...]:
        """Names of what a prompt hands to its first token and each token to the next: profiles differ in lengths."""
        prefix = f"cache.{self.profile.name}."
        return tuple(prefix + spec.name.removeprefix("carry.") for spec in self.generation.carry_specs)

    @property
    def prompt_ports(self) -> GraphPorts:
        """Names of the prompt graph's inputs and outputs."""
        prefill = self.prefill
        carry = tuple(spec.name for spec in prefill.carry_specs)
        fate = (FATE,) if prefill.tells_fate else ()
        written = tuple(name + CARRY_OUTPUT_SUFFIX for name in (*self.caches, *carry))
        return GraphPorts((*_PROMPT_INPUTS, *prefill.task_inputs, *carry), (LOGITS, KEPT, *fate, *written))

    @property
    def token_ports(self) -> GraphPorts:
        """Names of the token graph's inputs and outputs."""
        written = tuple(name + CARRY_OUTPUT_SUFFIX for name in self.caches)
        return GraphPorts((TOKEN, TOKEN_POSITION, *self.caches), (LOGITS, *written))


class PromptGraph(nn.Module):
    """A prefill, and what the KV policy remembers before the first token."""

    def __init__(self, prefill: PrefillStep, generation: GenerationStep) -> None:
        super().__init__()
        self.prefill = prefill
        self._initial_notes = generation.initial_notes

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run on flat tensors as :meth:`PrefillStep.forward` does; the KV policy's notes follow the caches."""
        out = self.prefill(*inputs)
        behind = len(out) - len(self.prefill.carry_specs)
        notes = self._initial_notes(inputs[0].shape[0])
        return *out[:behind], *notes, *out[behind:]
