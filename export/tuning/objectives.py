"""How far a pruned control step is from the unpruned one, on recorded frames; nothing here needs a label.

Source:
    VFlowOpt (2508.05211) maximises the cosine of the last prompt token's final state; the action readings are its
    counterpart for models that act.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.export.steps.acting_step import ActingStep, StepOutputs
from saccade.export.steps.selecting_module import Named, initial_state
from saccade.policies.base import Carry


@dataclass(frozen=True)
class Objective:
    """One reading of the discrepancy of a frame.

    Args:
        measure: Turns what the unpruned and the pruned step gave into one number.
        wants_more: A larger number is better.
        meaning: What is measured, in words for people.
        reads_prompt: The last prompt token is read, which no action is read from where actions are drawn out of noise.
    """

    measure: Callable[[StepOutputs, StepOutputs], Tensor]
    wants_more: bool
    meaning: str
    reads_prompt: bool = False


def _last_token(whole: StepOutputs, pruned: StepOutputs) -> Tensor:
    return torch.cosine_similarity(whole.action_states[:, 0], pruned.action_states[:, 0], dim=-1).mean()


def _action_query(whole: StepOutputs, pruned: StepOutputs) -> Tensor:
    return torch.cosine_similarity(whole.action_states, pruned.action_states, dim=-1).mean()


def _action_error(whole: StepOutputs, pruned: StepOutputs) -> Tensor:
    return (whole.actions - pruned.actions).abs().mean()


OBJECTIVES: Mapping[str, Objective] = {
    "last_token": Objective(
        _last_token, True, "cosine of the last prompt token's final state (the paper)", reads_prompt=True
    ),
    "action_query": Objective(
        _action_query, True, "mean cosine of the final states that actions are read from"
    ),
    "action_error": Objective(_action_error, False, "mean absolute difference of normalised actions"),
}


def unpruned(step: ActingStep, frames: Sequence[tuple[Tensor, ...]]) -> list[StepOutputs]:
    """Run every frame with every token.

    Args:
        step: Any step of the model whose budget is all tokens.
        frames: Host inputs of consecutive frames.
    """
    return [output for output, _ in _replay(step, step, frames, warmup=len(frames))]


def discrepancy(
    objective: Objective,
    step: ActingStep,
    full: ActingStep,
    frames: Sequence[tuple[Tensor, ...]],
    whole: Sequence[StepOutputs],
) -> float:
    """Return the mean of an objective over the frames behind the warm-up.

    Args:
        objective: What is measured.
        step: Pruned step; its carry goes from frame to frame.
        full: Step with the same policy and every token, for warm-up and refresh steps.
        frames: Host inputs of consecutive frames.
        whole: What the unpruned step gave for the same frames, from :func:`unpruned`.
    """
    values = [
        objective.measure(expected, output)
        for expected, (output, is_pruned) in zip(
            whole, _replay(step, full, frames, warmup=step.policy.warmup_steps), strict=True
        )
        if is_pruned
    ]
    return float(torch.stack(values).mean())


def _replay(
    step: ActingStep, full: ActingStep, frames: Sequence[tuple[Tensor, ...]], *, warmup: int
) -> list[tuple[StepOutputs, bool]]:
    """Run consecutive frames as the robot does; say of each whether it was pruned."""
    names = [spec.name for spec in step.carry_specs]
    tasks, every = len(step.task_inputs), step.policy.refresh_every
    start = initial_state(step)
    task = dict(zip(step.task_inputs, start[:tasks], strict=True))
    carry: Carry = dict(zip(names, start[tasks:], strict=True))
    outputs = []
    with torch.inference_mode():
        for index, frame in enumerate(frames):
            is_pruned = index >= warmup and not (every and index % every == 0)
            output = (step if is_pruned else full).step(frame, Named(task, carry))
            outputs.append((output, is_pruned))
            carry = output.carry
    return outputs
