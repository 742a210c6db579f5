"""Do the graphs of a bundle answer as PyTorch does, token by token, and does the policy change anything?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from saccade.export.answer.plan import AnsweringPlan, PromptGraph
from saccade.export.bundle.graph_session import GraphSession, last, open_graph
from saccade.export.bundle.progress import Stopwatch
from saccade.export.families.prompts import Prompted
from saccade.export.lowering.capture import GraphPorts
from saccade.export.steps.selecting_module import initial_state
from saccade.proto.errors import ReceiptError

TOKENS = 4
SAME = 1e-6


@dataclass(frozen=True)
class AnsweringTolerance:
    """What passes a parity check of a bundle that answers.

    Args:
        logits: Largest error of a logit, relative to the largest, on questions for which both sides keep the same
            tokens.
        carry: Largest error of a tensor of the policy's next carry, on questions for which both sides keep the same
            tokens.
        fate: Smallest share of visual tokens that the same kept token carries on both sides, on questions with equal
            kept sets.
        same_kept: Smallest share of questions for which both sides keep exactly the same visual tokens.
    """

    logits: float = 1e-3
    carry: float = 1e-4
    fate: float = 0.9
    same_kept: float = 0.5


@dataclass(frozen=True)
class AnsweringParity:
    """ONNX Runtime against PyTorch on one profile, on random pictures and questions.

    Args:
        questions: Number of questions compared.
        tokens: Number of tokens that are generated for each question.
        max_error: Largest error of a logit, relative to the largest, on questions for which both sides keep the same
            tokens.
        same_tokens: Share of tokens that both sides find likeliest.
        same_kept: Share of questions for which both sides keep exactly the same visual tokens.
        fate_same_min: Worst share of visual tokens with the same fate, on questions with equal kept sets; 1 if none is
            told.
        carry_max_error: Largest error over all tensors of the policy's next carry, on questions with equal kept sets.
        change: Largest change of a first logit against the unpruned model, relative; 0 in the full profile.
    """

    questions: int
    tokens: int
    max_error: float
    same_tokens: float
    same_kept: float
    fate_same_min: float
    carry_max_error: float
    change: float


class _Answer(NamedTuple):
    """What one side said: the logits of each token, the visual tokens it kept, their fate if told, the next carry."""

    logits: list[Tensor]
    kept: Tensor
    fate: Tensor | None
    carry: tuple[Tensor, ...]


def check_answers(
    folder: Path,
    prompted: Prompted,
    plans: Sequence[AnsweringPlan],
    watch: Stopwatch,
    questions: int,
    tolerance: AnsweringTolerance,
) -> dict[str, AnsweringParity]:
    """Compare every profile.

    Args:
        folder: Folder that the graphs' paths start from.
        prompted: Checkpoint that is exported, run by PyTorch.
        plans: Profiles, that with every token first.
        watch: Told of each question.
        questions: Number of questions that are compared in each profile.
        tolerance: What passes the check.

    Raises:
        ReceiptError: A graph disagrees with PyTorch, or a policy that keeps fewer tokens changes nothing.
    """
    unpruned: list[Tensor] = []
    return {
        plan.profile.name: _check(
            folder,
            prompted,
            plan,
            questions,
            unpruned,
            tolerance,
            watch.counted(f"{plan.profile.name}: parity", "questions"),
        )
        for plan in sorted(plans, key=lambda plan: plan.prefill.counts is not None)
    }


def _check(
    folder: Path,
    prompted: Prompted,
    plan: AnsweringPlan,
    questions: int,
    unpruned: list[Tensor],
    tolerance: AnsweringTolerance,
    tell: Callable[[int, int], None],
) -> AnsweringParity:
    """Compare one profile; the full one leaves its first logits in ``unpruned``."""
    sessions = [open_graph(folder / path) for path in (plan.prompt_graph, plan.token_graph)]
    name = plan.profile.name
    errors, tokens, kept, fates, carries, changes = [], [], [], [], [], []
    for seed in range(questions):
        tell(seed, questions)
        length = 1 + seed * (prompted.deployment.max_text_tokens - 1) // questions
        ours = _torch_answer(prompted, plan, length, seed)
        if plan.prefill.counts is None:
            unpruned.append(ours.logits[0])
        changes.append(_relative(ours.logits[0], unpruned[seed]))
        theirs = _graph_answer(sessions, prompted, plan, length, seed, ours)
        kept.append(theirs is not None)
        if theirs is None:
            continue  # near ties were ordered differently: the two answer about other tokens
        pairs = list(zip(theirs.logits, ours.logits, strict=True))
        errors += [_relative(found, wanted) for found, wanted in pairs]
        tokens += [bool((found.argmax(dim=-1) == wanted.argmax(dim=-1)).all()) for found, wanted in pairs]
        fates.append(_same_fate(theirs, ours))
        carries += [
            float((found - wanted).abs().max())
            for found, wanted in zip(theirs.carry, ours.carry, strict=True)
            if wanted.numel()
        ]
    same_kept = float(np.mean(kept))
    if not same_kept >= tolerance.same_kept:
        raise ReceiptError(
            f"{name}: expected the same visual tokens for {tolerance.same_kept:.0%} of the questions, found "
            f"{same_kept:.0%}."
        )
    receipt = AnsweringParity(
        questions,
        TOKENS,
        float(np.max(errors)),
        float(np.mean(tokens)),
        same_kept,
        min(fates),
        float(np.max(carries, initial=0.0)),  # NaN stays NaN
        float(np.max(changes)),
    )
    _judge(name, receipt, tolerance, prunes=plan.prefill.counts is not None)
    return receipt


def _judge(name: str, receipt: AnsweringParity, tolerance: AnsweringTolerance, *, prunes: bool) -> None:
    for what, found, fine, expected in (
        ("logits", receipt.max_error, receipt.max_error <= tolerance.logits, f"within {tolerance.logits}"),
        (
            "a share of visual tokens with the same fate",
            receipt.fate_same_min,
            receipt.fate_same_min >= tolerance.fate,
            f">= {tolerance.fate}",
        ),
        (
            "an error of a carry tensor",
            receipt.carry_max_error,
            receipt.carry_max_error <= tolerance.carry,
            f"<= {tolerance.carry}",
        ),
    ):
        if not fine:
            raise ReceiptError(
                f"{name}: ONNX Runtime and PyTorch disagree: expected {what} {expected}, found {found:.3g}; do not "
                "ship this graph."
            )
    if prunes and not receipt.change > SAME:
        raise ReceiptError(
            f"{name}: expected a policy that drops tokens to change the answer, found a change of {receipt.change:.1g}."
        )


def _torch_answer(prompted: Prompted, plan: AnsweringPlan, length: int, seed: int) -> _Answer:
    """Let PyTorch read a question and say :data:`TOKENS` tokens; of two caches one is in memory at a time."""
    with torch.inference_mode():
        said = PromptGraph(plan.prefill, plan.generation)(*_question(prompted, plan, length, seed))
        first, states = _first(plan, said), _states(plan, said)
        logits = first.logits
        del said
        for number in range(TOKENS - 1):
            said = plan.generation(*_next(prompted, length, number, logits[-1]), *states)
            logits.append(said[0])
            states = said[1:]
            del said
    return first


def _graph_answer(
    sessions: Sequence[GraphSession],
    prompted: Prompted,
    plan: AnsweringPlan,
    length: int,
    seed: int,
    ours: _Answer,
) -> _Answer | None:
    """Return what the graphs answer to what PyTorch said; None if they keep other visual tokens."""
    said = _run(sessions[0], plan.prompt_ports, _question(prompted, plan, length, seed))
    if not torch.equal(ours.kept, said[1]):
        return None
    first, states = _first(plan, said), _states(plan, said)
    del said
    for number in range(TOKENS - 1):
        inputs = (*_next(prompted, length, number, ours.logits[number]), *states)
        said = _run(sessions[1], plan.token_ports, inputs)
        first.logits.append(said[0])
        states = said[1:]
        del said, inputs
    return first


def _question(prompted: Prompted, plan: AnsweringPlan, length: int, seed: int) -> tuple[Tensor, ...]:
    return (*prompted.example(length, seed), *initial_state(plan.prefill))


def _first(plan: AnsweringPlan, said: tuple[Tensor, ...]) -> _Answer:
    """Return what a prompt's outputs say, caches aside."""
    prefill = plan.prefill
    fate = said[2] if prefill.tells_fate else None
    return _Answer([said[0]], said[1], fate, tuple(last(said, len(prefill.carry_specs))))


def _same_fate(found: _Answer, wanted: _Answer) -> float:
    if found.fate is None or wanted.fate is None:
        return 1.0
    return float((found.fate == wanted.fate).float().mean())


def _states(plan: AnsweringPlan, said: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the caches of a prompt's outputs."""
    first = 2 + plan.prefill.tells_fate
    return said[first : first + len(plan.caches)]


def _next(prompted: Prompted, length: int, number: int, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the likeliest token and its position."""
    position = torch.tensor([[prompted.model.first_position + length + number]])
    return logits.argmax(dim=-1, keepdim=True), position


def _relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def _run(session: GraphSession, ports: GraphPorts, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    feeds = {name: tensor.numpy() for name, tensor in zip(ports.inputs, inputs, strict=True)}
    return tuple(torch.from_numpy(array) for array in session.run(list(ports.outputs), feeds))
