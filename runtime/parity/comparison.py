"""Compares an engine with ONNX Runtime on the CPU, one control step at a time, from the same carry.

Both get the reference's carry before every step, so that each step is judged alone. Two engines may put near ties of a
policy's scores in another order: where they keep other tokens, actions differ for that reason, and are judged apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import InputError
from saccade.proto.manifest import Manifest
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.state_text import state_text
from saccade.proto.tensor_names import ACTIONS, KEPT, NOISE, PROPRIO
from saccade.runtime.noise import draw_noise
from saccade.runtime.parity.frames import Frames
from saccade.runtime.program import ProgramExecutor


@dataclass(frozen=True)
class ParityLimits:
    """What passes.

    Args:
        actions: Largest error of an action, as a share of half its usual range, on frames with equal kept sets.
        actions_otherwise: Largest error of an action on the other frames, as the same share.
        overlap: Smallest share of kept tokens that both sides have, on every frame.
    """

    actions: float
    actions_otherwise: float = 0.25
    overlap: float = 0.9


CPU_LIMITS = ParityLimits(actions=1e-3)
"""For engines that compute in float32."""
GPU_LIMITS = ParityLimits(actions=2e-2, overlap=0.8)
"""For engines whose float32 products may use TF32, of 10 bits."""


@dataclass(frozen=True)
class ProfileParity:
    """One profile on one engine, against ONNX Runtime on the CPU.

    Args:
        profile: Name of the profile.
        frames: Number of control steps that were compared; those of the policy's warm-up, which run ``full``, are not.
        same_kept: Number of them in which both sides kept the same tokens.
        max_error: Largest error of an action, as a share of half its usual range, on frames with equal kept sets.
        max_error_otherwise: Largest error of an action on the other frames, as the same share; 0 if there are none.
        max_error_physical: Largest error of each number of an action, in its unit, on frames with equal kept sets.
        overlap_min: Worst share of common kept tokens, over all frames.
        carry_max_error: Largest error over what a step hands to the next, on frames with equal kept sets.
    """

    profile: str
    frames: int
    same_kept: int
    max_error: float
    max_error_otherwise: float
    max_error_physical: dict[str, float]
    overlap_min: float
    carry_max_error: float

    def breaches(self, limits: ParityLimits) -> list[str]:
        """Say in what it is outside the limits; empty = it passes. What is not a number is outside.

        Args:
            limits: What passes.
        """
        checks = (
            ("an error of an action, in shares of half its range,", self.max_error, limits.actions),
            ("that error where other tokens are kept", self.max_error_otherwise, limits.actions_otherwise),
        )
        found = [
            f"{self.profile}: expected {what} <= {limit:g}, found {value:.3g}"
            for what, value, limit in checks
            if not value <= limit
        ]
        if not self.overlap_min >= limits.overlap:
            found.append(
                f"{self.profile}: expected a share of common tokens >= {limits.overlap:g}, found {self.overlap_min:.3g}"
            )
        if not self.same_kept:
            found.append(f"{self.profile}: expected a frame with the same kept tokens, found none")
        return found


@dataclass(frozen=True)
class _Step:
    """A control step, without the batch axis."""

    actions: NDArray[np.float32]
    kept: NDArray[np.int64] | None
    carry: Mapping[str, NDArray[Any]]


def compare(
    reference: ProgramExecutor,
    engine: ProgramExecutor,
    frames: Frames,
    profiles: Sequence[str],
    tell: Callable[[str, int], None] = lambda profile, done: None,
) -> list[ProfileParity]:
    """Compare two executors of one bundle.

    Args:
        reference: What computes on ONNX Runtime on the CPU.
        engine: What is compared with it.
        frames: Consecutive control steps, more than the policy's warm-up has.
        profiles: Names of the profiles.
        tell: Told of each step, the profile and how many are done.

    Returns:
        What was found of each profile.

    Raises:
        InputError: There are no frames beyond the warm-up.
        SaccadeError: An instruction cannot be used, or an engine failed.
    """
    warmup = reference.manifest.policy.warmup_steps
    if len(frames) <= warmup:
        raise InputError(
            f"expected more than {warmup} frames, which the policy's warm-up takes, found {len(frames)}: give more."
        )
    return [_compare(reference, engine, frames, profile, tell) for profile in profiles]


def _compare(
    reference: ProgramExecutor,
    engine: ProgramExecutor,
    frames: Frames,
    profile: str,
    tell: Callable[[str, int], None],
) -> ProfileParity:
    reference.reset()
    engine.reset()
    warmup = reference.manifest.policy.warmup_steps
    pairs = []
    for index in range(len(frames)):
        engine.write_carry(reference.read_carry())
        runs = FULL_PROFILE if index < warmup else profile
        pairs.append(tuple(_step(program, frames, index, runs) for program in (reference, engine)))
        tell(profile, index + 1)
    physical_per_unit = reference.statistics.action.physical_per_unit
    return _summarise(reference.manifest, profile, pairs[warmup:], physical_per_unit)


def _step(program: ProgramExecutor, frames: Frames, index: int, profile: str) -> _Step:
    manifest = program.manifest
    state = program.statistics.proprio.normalise(frames.proprio[index])
    bins = manifest.instruction.state_bins
    program.set_instruction(frames.instructions[index], state_text(state, bins) if bins else "")
    views = [view.name for view in manifest.views]
    program.set_images(dict(zip(views, frames.images[index], strict=True)))
    if PROPRIO in program.inputs:
        program.inputs[PROPRIO][0] = state
    if NOISE in program.inputs:
        program.inputs[NOISE][0] = draw_noise(0, 0, index, program.inputs[NOISE][0].shape)
    results = program.step(profile, {})
    actions, kept = results[ACTIONS][0].copy(), results[KEPT][0].copy() if KEPT in results else None
    program.commit()
    return _Step(actions, kept, program.read_carry())


def _summarise(
    manifest: Manifest,
    profile: str,
    pairs: Sequence[tuple[_Step, ...]],
    physical_per_unit: NDArray[np.float32],
) -> ProfileParity:
    errors = [np.abs(found.actions - expected.actions) for expected, found in pairs]
    overlaps = [_overlap(expected.kept, found.kept) for expected, found in pairs]
    is_same = [overlap == 1 for overlap in overlaps]
    same = [error for error, alike in zip(errors, is_same, strict=True) if alike]
    other = [error for error, alike in zip(errors, is_same, strict=True) if not alike]
    carries = [
        _distance(expected.carry[name], found.carry[name])
        for (expected, found), alike in zip(pairs, is_same, strict=True)
        if alike
        for name in expected.carry
    ]
    worst = np.max(same, axis=(0, 1)) if same else np.zeros(manifest.action.dim)
    return ProfileParity(
        profile=profile,
        frames=len(pairs),
        same_kept=sum(is_same),
        max_error=float(worst.max()),
        max_error_otherwise=float(np.max(other)) if other else 0.0,
        max_error_physical={
            f"{name} [{unit}]": float(error)
            for name, unit, error in zip(
                manifest.action.names, manifest.action.units, worst * physical_per_unit, strict=True
            )
        },
        overlap_min=min(overlaps),
        carry_max_error=max(carries, default=0.0),
    )


def _overlap(expected: NDArray[np.int64] | None, found: NDArray[np.int64] | None) -> float:
    """Return the share of kept tokens that both sides kept; 1 where nobody tells."""
    if expected is None or found is None:
        return 1.0
    return len(np.intersect1d(expected, found)) / len(expected)


def _distance(expected: NDArray[Any], found: NDArray[Any]) -> float:
    return float(np.max(np.abs(found.astype(np.float64) - expected.astype(np.float64)), initial=0.0))
