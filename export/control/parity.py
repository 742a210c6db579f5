"""Does the graph compute what the PyTorch module computes, and does the policy change anything at all?

Both run on the same frames, one control step at a time, from the same carry (PyTorch's), so that every step is judged
alone. A check that could not run is a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.export.bundle.graph_session import GraphSession, last, open_graph
from saccade.export.control.choice_logits import telling_logits
from saccade.export.steps.acting_step import ActingStep
from saccade.export.steps.autoregressive_step import AutoregressiveStep
from saccade.export.steps.selecting_module import initial_state
from saccade.proto.errors import ReceiptError
from saccade.proto.tensor_names import ENCODED_AGES, FATE

SAME_ACTION = 1e-6
"""Difference below which normalised actions count as unchanged."""


@dataclass(frozen=True)
class ParityTolerance:
    """What passes a parity check.

    Args:
        actions: Largest error of a normalised action, on frames where both sides keep the same tokens.
        actions_otherwise: Largest error of a normalised action on the other frames, where near ties were ordered
            differently.
        carry: Largest error of a carry tensor, on frames where both sides keep the same tokens.
        fate: Smallest share of visual tokens that the same kept token carries on both sides, where a policy merges, on
            frames with equal kept sets.
        overlap: Smallest share of kept tokens that both sides have, on every frame. Two backends may order near ties
            differently.
        same_kept: Smallest share of frames on which both sides keep exactly the same tokens.
        logits: Largest error of a logit by which an action token is chosen, relative to the largest, on frames where
            both sides keep the same tokens.
    """

    actions: float = 1e-4
    actions_otherwise: float = 0.1
    carry: float = 1e-4
    fate: float = 0.9
    overlap: float = 0.9
    same_kept: float = 0.5
    logits: float = 1e-3


@dataclass(frozen=True)
class ParityReceipt:
    """ONNX Runtime against PyTorch on one profile.

    Args:
        profile: Name of the profile.
        keep: Keep count of the profile, visual tokens.
        frames: Number of frames compared.
        source: Where the frames come from: ``recorded`` or ``synthetic``.
        actions_max_error: Largest error of a normalised action, on frames with equal kept sets; sets are equal where
            the same patches were encoded too.
        actions_mean_error: Mean error of a normalised action, on frames with equal kept sets.
        actions_max_error_otherwise: Largest error of a normalised action on frames with different kept sets; 0 if there
            are none.
        actions_max_error_physical: Largest error of each action dimension, in its unit, on frames with equal kept sets.
        logits_max_error: Largest error of the logits by which action tokens are chosen, relative to the largest; 0
            where none are.
        carry_max_error: Largest error over all carry tensors, on frames with equal kept sets.
        fate_same_min: Worst share of visual tokens with the same fate, on frames with equal kept sets; 1 if none is
            told.
        kept_overlap_min: Worst share of common kept tokens, over all frames.
        kept_same_share: Share of frames with equal kept sets.
        distinct_kept_sets: Number of different sets that ONNX Runtime kept.
        action_change: Largest difference that dropping tokens made to a normalised action (PyTorch against the full
            profile); 0 for the full profile.
    """

    profile: str
    keep: int
    frames: int
    source: str
    actions_max_error: float
    actions_mean_error: float
    actions_max_error_otherwise: float
    actions_max_error_physical: list[float]
    logits_max_error: float
    carry_max_error: float
    fate_same_min: float
    kept_overlap_min: float
    kept_same_share: float
    distinct_kept_sets: int
    action_change: float


@dataclass(frozen=True)
class _Frame:
    """One compared control step; arrays without the batch axis."""

    actions: NDArray[np.float32]
    actions_onnx: NDArray[np.float32]
    actions_full: NDArray[np.float32]
    kept: NDArray[np.int64]
    kept_onnx: NDArray[np.int64]
    carry_error: float
    fate_same: float
    logits_error: float = 0.0
    encoded_same: bool = True

    @property
    def action_error(self) -> NDArray[np.float32]:
        """Error of each normalised action, ``(chunk, action_dim)``; NaN where one of the two is."""
        return np.abs(self.actions - self.actions_onnx)

    @property
    def same(self) -> bool:
        """Whether both kept the same tokens, and encoded the same patches."""
        return self.encoded_same and np.array_equal(self.kept, self.kept_onnx)

    @property
    def overlap(self) -> float:
        """Share of PyTorch's kept tokens that ONNX Runtime kept too."""
        return len(np.intersect1d(self.kept, self.kept_onnx)) / len(self.kept)


def check_parity(  # noqa: PLR0913
    graph: Path,
    step: ActingStep,
    full: ActingStep,
    frames: Sequence[tuple[Tensor, ...]],
    *,
    profile: str,
    source: str,
    physical_per_unit: NDArray[np.float32],
    tolerance: ParityTolerance,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> ParityReceipt:
    """Compare one profile; the first ``policy.warmup_steps`` frames run at full, as on the robot.

    Args:
        graph: Path of the ONNX file, its weights beside it.
        step: The PyTorch module of this profile.
        full: The PyTorch module with every token.
        frames: Host inputs of consecutive frames, batch 1.
        profile: Name of the profile, for messages.
        source: Where the frames come from: ``recorded`` or ``synthetic``.
        physical_per_unit: Physical size of one normalised unit for each action dimension.
        tolerance: What passes the check.
        tell: Told how many frames are done, and how many there are in all.

    Raises:
        ReceiptError: Graph and module are too far apart, the policy did nothing, or there were too few frames to tell.
    """
    warmup = step.policy.warmup_steps if step is not full else 0
    if len(frames) <= warmup:
        raise ReceiptError(
            f"profile {profile!r}: expected more than {warmup} frames (the policy's warm-up), found {len(frames)}; "
            "the parity check could not run. Give more frames."
        )
    compared = _run(graph, step, full, frames, warmup, tell)
    same = [frame for frame in compared if frame.same]
    otherwise = [frame.action_error for frame in compared if not frame.same]
    errors = np.stack([frame.action_error for frame in same]) if same else np.full((1, 1, 1), np.inf)
    receipt = ParityReceipt(
        profile=profile,
        keep=step.survivors,
        frames=len(compared),
        source=source,
        actions_max_error=float(errors.max()),
        actions_mean_error=float(errors.mean()),
        actions_max_error_otherwise=float(np.max(otherwise)) if otherwise else 0.0,
        actions_max_error_physical=[float(x) for x in errors.max(axis=(0, 1)) * physical_per_unit],
        logits_max_error=float(np.max([frame.logits_error for frame in same])) if same else float("inf"),
        carry_max_error=float(np.max([frame.carry_error for frame in same])) if same else float("inf"),
        fate_same_min=min((frame.fate_same for frame in same), default=1.0),
        kept_overlap_min=min(frame.overlap for frame in compared),
        kept_same_share=len(same) / len(compared),
        distinct_kept_sets=len({frame.kept_onnx.tobytes() for frame in compared}),
        action_change=max(float(np.abs(f.actions - f.actions_full).max()) for f in compared),
    )
    _judge(receipt, compared, tolerance, tokens=step.family.grid.tokens)
    return receipt


def _run(
    graph: Path,
    step: ActingStep,
    full: ActingStep,
    frames: Sequence[tuple[Tensor, ...]],
    warmup: int,
    tell: Callable[[int, int], None],
) -> list[_Frame]:
    chooser = step if isinstance(step, AutoregressiveStep) else None
    session = _open_choosing(graph, chooser) if chooser is not None else open_graph(graph)
    names = step.ports.inputs
    tasks, carried = len(step.task_inputs), len(step.carry_specs)
    state = initial_state(step)
    compared: list[_Frame] = []
    for index, frame in enumerate(frames):
        inputs = (*frame, *state)
        with torch.inference_mode():
            whole = full.outputs(inputs)
            out = whole if index < warmup or step is full else step.outputs(inputs)
            ours, logits = step.flat(out), chooser.choice_logits(out) if chooser is not None else None
        if index >= warmup:
            told = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
            theirs, chosen_by = told[: len(ours)], told[len(ours) :]
            error = 0.0 if logits is None else _logits_error(logits[0].numpy(), chosen_by)
            compared.append(_compare(ours, theirs, full.flat(whole), carried, error, step.told))
        state = (*state[:tasks], *(tensor.clone() for tensor in last(ours, carried)))
        tell(index + 1, len(frames))
    return compared


def _open_choosing(graph: Path, step: AutoregressiveStep) -> GraphSession:
    """Load a graph that also tells the logits it chooses action tokens by."""
    model, found = telling_logits(graph, step.family.decoder.config.vocab_size)
    if found != step.action_dim:
        raise ReceiptError(
            f"expected {step.action_dim} choices of an action token in {graph.name}, found {found}; the parity check "
            "could not run."
        )
    return open_graph(graph, model.SerializeToString())


def _logits_error(ours: NDArray[np.float32], theirs: Sequence[NDArray[np.float32]]) -> float:
    """Return the largest error, relative to the largest logit, up to the first token that the two choose otherwise."""
    errors = []
    for wanted, found in zip(ours, (row[0] for row in theirs), strict=True):
        errors.append(np.abs(wanted - found).max() / np.abs(wanted).max())
        if wanted.argmax() != found.argmax():
            break  # what follows was read after another token
    return float(np.max(errors))  # NaN stays NaN


def _compare(
    ours: tuple[Tensor, ...],
    theirs: Sequence[NDArray[Any]],
    whole: tuple[Tensor, ...],
    carried: int,
    logits_error: float,
    told: Sequence[str],
) -> _Frame:
    carry_errors = [
        float(np.abs(a.numpy() - b).max())
        for a, b in zip(last(ours, carried), last(theirs, carried), strict=True)
        if b.size
    ]
    of_tokens = {name: (ours[2 + i].numpy(), theirs[2 + i]) for i, name in enumerate(told)}
    same = {name: float((a == b).mean()) for name, (a, b) in of_tokens.items()}
    return _Frame(
        actions=ours[0][0].numpy(),
        actions_onnx=theirs[0][0],
        actions_full=whole[0][0].numpy(),
        kept=ours[1][0].numpy(),
        kept_onnx=theirs[1][0].astype(np.int64),
        carry_error=float(np.max(carry_errors, initial=0.0)),  # NaN stays NaN
        fate_same=same.get(FATE, 1.0),
        logits_error=logits_error,
        encoded_same=same.get(ENCODED_AGES, 1.0) == 1.0,
    )


def _judge(
    receipt: ParityReceipt, compared: Sequence[_Frame], tolerance: ParityTolerance, *, tokens: int
) -> None:
    where = f"profile {receipt.profile!r}"
    for frame in compared:
        check_kept(frame.kept_onnx, receipt.keep, tokens, where)
        if not np.isfinite(frame.carry_error):
            raise ReceiptError(f"{where}: expected a finite carry on every frame, found NaN or infinity.")
    for what, found, fine, expected in (
        (
            "share of common kept tokens",
            receipt.kept_overlap_min,
            receipt.kept_overlap_min >= tolerance.overlap,
            f">= {tolerance.overlap}",
        ),
        (
            "share of frames with equal kept sets",
            receipt.kept_same_share,
            receipt.kept_same_share >= tolerance.same_kept,
            f">= {tolerance.same_kept}",
        ),
        (
            "share of visual tokens with the same fate",
            receipt.fate_same_min,
            receipt.fate_same_min >= tolerance.fate,
            f">= {tolerance.fate}",
        ),
        (
            "error of a normalised action",
            receipt.actions_max_error,
            receipt.actions_max_error <= tolerance.actions,
            f"<= {tolerance.actions}",
        ),
        (
            "error of a normalised action where kept sets differ",
            receipt.actions_max_error_otherwise,
            receipt.actions_max_error_otherwise <= tolerance.actions_otherwise,
            f"<= {tolerance.actions_otherwise}",
        ),
        (
            "error of a logit, relative to the largest,",
            receipt.logits_max_error,
            receipt.logits_max_error <= tolerance.logits,
            f"<= {tolerance.logits}",
        ),
        (
            "error of a carry tensor",
            receipt.carry_max_error,
            receipt.carry_max_error <= tolerance.carry,
            f"<= {tolerance.carry}",
        ),
    ):
        if not fine:
            raise ReceiptError(
                f"{where}: ONNX Runtime and PyTorch disagree: expected {what} {expected}, found {found:.3g} over "
                f"{receipt.frames} {receipt.source} frames; do not ship this graph."
            )
    if receipt.keep < tokens and receipt.action_change <= SAME_ACTION:
        raise ReceiptError(
            f"{where}: the policy changed nothing: expected actions that differ from keeping all {tokens} tokens, "
            f"found the same to {receipt.action_change:.1g} on all {receipt.frames} frames."
        )


def check_kept(kept: NDArray[np.int64], keep: int, tokens: int, where: str) -> None:
    """Check that a kept set is what a profile promises.

    Raises:
        ReceiptError: The kept set has the wrong count, or is not original indices, ascending.
    """
    if len(kept) != keep:
        raise ReceiptError(f"{where}: expected {keep} kept tokens, found {len(kept)}.")
    if (np.diff(kept) <= 0).any() or kept[0] < 0 or kept[-1] >= tokens:
        raise ReceiptError(
            f"{where}: expected ascending, unique indices in 0..{tokens - 1}, found {kept.tolist()[:20]}."
        )
