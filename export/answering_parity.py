"""Do the graphs of a bundle answer as PyTorch does, token by token, and does the policy change anything?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from saccade.export.answering_plan import AnsweringPlan, PromptGraph
from saccade.export.families.prompts import Prompted
from saccade.export.graph.capture import StepPorts
from saccade.export.graph.selecting import initial_state
from saccade.export.parity import GraphSession, open_graph
from saccade.export.progress import Progress, counted
from saccade.proto.errors import ReceiptError

TOLERANCE = 1e-3
"""Largest error of a logit, relative to the spread of the logits."""
QUESTIONS, TOKENS = 4, 4
SAME = 1e-6
LEAST_SAME = 0.5


@dataclass(frozen=True)
class AnsweringParity:
    """ONNX Runtime against PyTorch on one profile, on random pictures and questions.

    Args:
        questions: Compared.
        tokens: Generated for each.
        max_error: Of a logit, relative to the largest, on questions for which both keep the same tokens.
        same_tokens: Share of tokens that both find likeliest.
        same_kept: Share of questions for which both keep exactly the same visual tokens.
        change: Largest change of a first logit against the unpruned model, relative; 0 in the full profile.
    """

    questions: int
    tokens: int
    max_error: float
    same_tokens: float
    same_kept: float
    change: float


def check_answers(
    folder: Path, prompted: Prompted, plans: Sequence[AnsweringPlan], say: Progress
) -> dict[str, AnsweringParity]:
    """Compare every profile.

    Args:
        folder: Of the graphs.
        prompted: The model.
        plans: Of the profiles.
        say: Told of each question.

    Raises:
        ReceiptError: A graph disagrees with PyTorch, or a policy that keeps fewer tokens changes nothing.
    """
    full = next(plan for plan in plans if plan.prefill.counts is None)
    return {
        plan.profile.name: _check(
            folder, prompted, plan, full, counted(say, f"{plan.profile.name}: parity", "questions")
        )
        for plan in plans
    }


def _check(
    folder: Path,
    prompted: Prompted,
    plan: AnsweringPlan,
    full: AnsweringPlan,
    tell: Callable[[int, int], None],
) -> AnsweringParity:
    prompt, name = PromptGraph(plan.prefill, plan.generation), plan.profile.name
    sessions = [open_graph(folder / path) for path in (plan.prompt_graph, plan.token_graph)]
    errors, tokens, kept, changes = [], [], [], []
    for seed in range(QUESTIONS):
        tell(seed, QUESTIONS)
        words = 1 + seed * (prompted.deployment.max_text_tokens - 1) // QUESTIONS
        inputs = (*prompted.example(words, seed), *initial_state(plan.prefill))
        with torch.inference_mode():
            ours = prompt(*inputs)
            unpruned = full.prefill(*inputs[:3], *initial_state(full.prefill))[0]
        changes.append(_relative(ours[0], unpruned))
        theirs = _run(sessions[0], plan.prompt_ports, inputs)
        is_same = torch.equal(ours[1], theirs[1])
        kept.append(is_same)
        if not is_same:
            continue  # near ties were ordered differently: the two answer about other tokens
        first = 2 + plan.prefill.tells_fate
        states = [values[first : first + len(plan.caches)] for values in (ours, theirs)]
        logits = (ours[0], theirs[0])
        for number in range(TOKENS):
            errors.append(_relative(logits[1], logits[0]))
            token = logits[0].argmax(dim=-1, keepdim=True)
            tokens.append(bool((logits[1].argmax(dim=-1, keepdim=True) == token).all()))
            position = torch.tensor([[prompted.model.first_position + words + number]])
            with torch.inference_mode():
                mine = plan.generation(token, position, *states[0])
            other = _run(sessions[1], plan.token_ports, (token, position, *states[1]))
            logits, states = (mine[0], other[0]), [mine[1:], other[1:]]
    same_kept = float(np.mean(kept))
    if not same_kept >= LEAST_SAME:
        raise ReceiptError(
            f"{name}: expected the same visual tokens for {LEAST_SAME:.0%} of the questions, found {same_kept:.0%}."
        )
    receipt = AnsweringParity(
        QUESTIONS,
        TOKENS,
        float(np.max(errors)),
        float(np.mean(tokens)),
        same_kept,
        float(np.max(changes)),
    )
    if not receipt.max_error <= TOLERANCE:
        raise ReceiptError(
            f"{name}: ONNX Runtime and PyTorch disagree: expected logits within {TOLERANCE}, found "
            f"{receipt.max_error:.3g}."
        )
    if plan.prefill.counts is not None and not receipt.change > SAME:
        raise ReceiptError(
            f"{name}: expected a policy that drops tokens to change the answer, found a change of {receipt.change:.1g}."
        )
    return receipt


def _relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def _run(session: GraphSession, ports: StepPorts, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    feeds = {name: tensor.numpy() for name, tensor in zip(ports.inputs, inputs, strict=True)}
    return tuple(torch.from_numpy(array) for array in session.run(list(ports.outputs), feeds))
