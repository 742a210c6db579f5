"""The ways to run a control step: an engine on a bundle, and PyTorch, eager or compiled, on its checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saccade.export.control.frames import host_inputs, synthetic_recording
from saccade.export.families.base import ActingFamily
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.loading.weights import hold_weights
from saccade.export.steps.acting_step import ActingStep
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.step_of import acting_step
from saccade.policies.registry import build_policy
from saccade.proto.manifest import Manifest
from saccade.proto.tensor_names import ACTIONS, KEPT
from saccade.runtime.engines.base import Backend
from saccade.runtime.program import ProgramExecutor

EAGER, COMPILE = "eager", "compile"
Frame = Mapping[str, Tensor]
"""What the host gives for one control step, batch 1, by name."""


class Way(Protocol):
    """One way to run one profile; keeps its carry."""

    def reset(self) -> None:
        """Begin an episode."""

    def step(self, frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Run a control step; return normalised actions ``(chunk, action_dim)`` and kept tokens ``(keep,)``."""
        ...


class EngineWay:
    """A profile of a bundle on an engine, on the runtime's own executor.

    Args:
        program: Executor of the bundle.
        profile: Name of the profile.
    """

    def __init__(self, program: ProgramExecutor, profile: str) -> None:
        self._program, self._profile = program, profile

    def reset(self) -> None:
        """Restore the carry."""
        self._program.reset()

    def step(self, frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Run a control step."""
        for name, tensor in frame.items():
            if name in self._program.inputs:
                self._program.inputs[name][...] = tensor.numpy()
        results = self._program.step(self._profile, {})
        self._program.commit()
        return results[ACTIONS][0], results[KEPT][0]


class TorchWay:
    """The module that a profile was exported from; inputs come from the host, and actions go back to it, in each step.

    Args:
        call: The module, eager or compiled.
        step: The module, for its ports.
        manifest: Manifest of the bundle, for the carry's beginning.
        device: Where it runs.
    """

    def __init__(
        self, call: Callable[..., tuple[Tensor, ...]], step: ActingStep[Any], manifest: Manifest, device: str
    ) -> None:
        self._call, self._device, self._ports = call, device, step.ports
        self._initial = {
            carry.name: torch.full(
                manifest.tensor(carry.name).shape,
                carry.initial,
                dtype=getattr(torch, manifest.tensor(carry.name).dtype),
                device=device,
            )
            for carry in manifest.carry
        }
        self._task = {
            spec.name: torch.ones(spec.shape, dtype=getattr(torch, spec.dtype), device=device)
            for spec in manifest.tensors
            if spec.name in step.task_inputs
        }
        self._carry = self._initial

    def reset(self) -> None:
        """Restore the carry."""
        self._carry = self._initial

    def step(self, frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Run a control step."""
        known = {**self._carry, **self._task}
        given = [
            known[name] if name in known else frame[name].to(self._device) for name in self._ports.inputs
        ]
        with torch.inference_mode():
            found = dict(zip(self._ports.outputs, self._call(*given), strict=True))
        self._carry = {name: found[f"{name}.next"] for name in self._carry}
        return found[ACTIONS][0].cpu().numpy(), found[KEPT][0].cpu().numpy()


def torch_ways(
    checkpoint: Checkpoint[ActingFamily], manifest: Manifest, names: Sequence[str], device: str
) -> tuple[dict[str, dict[str, Way]], dict[str, Any]]:
    """Return PyTorch's ways by profile and name, and what is worth noting: seconds of compiling, or why it failed.

    Args:
        checkpoint: The model.
        manifest: Manifest of its bundle.
        names: :data:`EAGER`, :data:`COMPILE` or both.
        device: Where it runs.
    """
    hold_weights(checkpoint.module)
    checkpoint.module.to(device)
    frame = frames_of(checkpoint, 1)[0]
    ways: dict[str, dict[str, Way]] = {}
    notes: dict[str, Any] = {}
    for profile in manifest.profiles:
        config = profile.policy_config or manifest.policy.config
        policy = build_policy(manifest.policy.name, config, model_shape(checkpoint.model))
        budget = round(profile.keep_ratio * manifest.grid.tokens)
        module = acting_step(checkpoint.model, policy, budget).to(device)
        found = ways.setdefault(profile.name, {})
        if EAGER in names:
            found[EAGER] = TorchWay(module, module, manifest, device)
        if COMPILE in names:
            compiled, note = _compiled(module, manifest, frame, device)
            notes[f"{profile.name} {COMPILE}"] = note
            if compiled is not None:
                found[COMPILE] = compiled
    return ways, notes


def _compiled(
    module: ActingStep[Any], manifest: Manifest, frame: Frame, device: str
) -> tuple[TorchWay | None, dict[str, Any]]:
    started = time.monotonic()
    torch.compiler.reset()
    whole: nn.Module = torch.compile(module, dynamic=False)
    way = TorchWay(whole, module, manifest, device)
    try:
        way.step(frame)
    except Exception as error:  # noqa: BLE001 - whatever the compiler does not like is the finding
        return None, {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
    way.reset()
    return way, {"seconds": round(time.monotonic() - started, 1)}


def engine_ways(program: ProgramExecutor) -> dict[str, Way]:
    """Return the ways of an engine, by profile."""
    return {profile.name: EngineWay(program, profile.name) for profile in program.manifest.profiles}


def load_engine(bundle: Any, backend: Backend) -> ProgramExecutor:
    """Return a bundle on an engine, warmed up."""
    program = ProgramExecutor(bundle, backend)
    program.warm_up()
    return program


def frames_of(checkpoint: Checkpoint[ActingFamily], count: int) -> list[Frame]:
    """Return random frames by the names of what the host gives: what a step costs does not depend on what is seen."""
    recording = synthetic_recording(checkpoint, count)
    names = checkpoint.model.host_inputs
    return [dict(zip(names, frame, strict=True)) for frame in host_inputs(recording, checkpoint)]


def agreement(ways: Mapping[str, Way], frames: Sequence[Frame], reference: str) -> dict[str, dict[str, Any]]:
    """Compare the ways of one profile with one of them, over an episode that begins anew for each.

    Args:
        ways: Ways by name.
        frames: The episode.
        reference: Name of the way that the others are compared with.

    Returns:
        By name: ``max_difference`` of normalised actions among the frames with equal kept sets, None if there are none,
        and the share ``same_kept`` of those frames.
    """
    answers = {}
    for name, way in ways.items():
        way.reset()
        answers[name] = [tuple(part.copy() for part in way.step(frame)) for frame in frames]
        way.reset()
    found = {}
    for name, answer in answers.items():
        same = [
            float(np.abs(ours[0] - theirs[0]).max())
            for ours, theirs in zip(answer, answers[reference], strict=True)
            if np.array_equal(ours[1], theirs[1])
        ]
        found[name] = {"max_difference": max(same, default=None), "same_kept": len(same) / len(frames)}
    return found
