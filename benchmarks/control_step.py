"""A control step by ONNX Runtime, PyTorch eager and torch.compile: same weights, same frames, one run, side by side.

    python -m benchmarks.control_step CHECKPOINT BUNDLE

What is timed is the model and nothing around it: the graph on bound buffers, the module on ready tensors, each feeding
its carry back. The ways take turns in blocks, so that a slow minute slows all of them; a block's first steps, in which
threads and caches change hands, are not counted. Needs the export side: run it where torch is installed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from benchmarks.frames import recorded_observations
from benchmarks.results_file import RESULTS, latency_summary, write_results
from saccade.export.control.frames import Recording, host_inputs
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.families.openvla_oft import checkpoint as openvla_oft
from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.policies.registry import build_policy
from saccade.proto.manifest import Manifest
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.provenance import provenance

Frame = tuple[Tensor, ...]
"""Host inputs of the graph for one frame, batch 1."""

Answer = tuple[np.ndarray, np.ndarray]
"""Result of one frame: normalised actions ``(chunk, action_dim)``, kept visual tokens ``(keep,)``."""

_INPUTS = ("images", "proprio", "token_ids", "attention_mask", "position_ids")


class OrtWay:
    """A profile of the bundle, on the runtime's own executor."""

    def __init__(self, program: ProgramExecutor, profile: str) -> None:
        self._program, self._profile = program, profile

    def reset(self) -> None:
        """Restore the carry."""
        self._program.reset()

    def step(self, frame: Frame) -> Answer:
        """Run one control step."""
        for name, tensor in zip(_INPUTS, frame, strict=True):
            if name in self._program.inputs:
                self._program.inputs[name][...] = tensor.numpy()
        results = self._program.step(self._profile, {})
        self._program.commit()
        return results["actions"][0], results["kept"][0]


class TorchWay:
    """The module that the profile was exported from, eager or compiled."""

    def __init__(self, call: Callable[..., tuple[Tensor, ...]], manifest: Manifest) -> None:
        self._call = call
        specs = [(manifest.tensor(carry.name), carry.initial) for carry in manifest.carry]
        self._initial = tuple(
            torch.full(spec.shape, initial, dtype=getattr(torch, spec.dtype)) for spec, initial in specs
        )
        self._carry = self._initial

    def reset(self) -> None:
        """Restore the carry."""
        self._carry = self._initial

    def step(self, frame: Frame) -> Answer:
        """Run one control step."""
        with torch.inference_mode():
            actions, kept, *carry = self._call(*frame, *self._carry)
        self._carry = tuple(carry)
        return actions[0].numpy(), kept[0].numpy()


Way = OrtWay | TorchWay


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--rounds", default=12, show_default=True)
@click.option(
    "--block", default=20, show_default=True, help="Counted steps of a way before the next takes its turn."
)
@click.option("--settle", default=5, show_default=True, help="Steps of a block that are not counted.")
@click.option("--threads", default=0, show_default=True, help="Of each way; 0 = one for each core.")
@click.option("--compile/--no-compile", "is_compiled", default=True, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS / "control_step.json")
def main(  # noqa: PLR0913, PLR0917 - one for each option
    checkpoint: Path,
    bundle: Path,
    rounds: int,
    block: int,
    settle: int,
    threads: int,
    is_compiled: bool,
    out: Path,
) -> None:
    """Time every profile of BUNDLE against the modules of CHECKPOINT."""
    torch.set_num_threads(threads or provenance()["machine"]["cores"])
    loaded = openvla_oft.load(CheckpointFolder(checkpoint))
    frames = _frames(loaded)
    with OrtBackend(threads=threads) as backend:
        program = ProgramExecutor(Bundle.open(bundle), backend)
        ways, notes = _ways(loaded, program, frames, is_compiled=is_compiled)
        agreement = _agreement(ways, frames)
        durations_ns: dict[str, list[int]] = {name: [] for name in ways}
        for _ in track(range(rounds), "rounds"):
            for name, way in ways.items():
                durations_ns[name] += _block(way, frames, block, settle)
    cells = [
        {"profile": name.split()[0], "way": name.split()[1], **agreement[name], **latency_summary(values)}
        for name, values in durations_ns.items()
    ]
    settings = {"rounds": rounds, "block": block, "settle": settle, "threads": torch.get_num_threads()}
    write_results(out, {**provenance(), "settings": settings, "notes": notes, "cells": cells})
    _show(cells, notes)


def _frames(checkpoint: Checkpoint[OpenVlaOft]) -> list[Frame]:
    told, observations = recorded_observations(16, image_px=checkpoint.model.config.image_size)
    views = checkpoint.embodiment.views
    recording = Recording(
        np.stack([np.stack([seen.images[view] for view in views]) for seen in observations]),
        np.stack([seen.proprio for seen in observations]),
        (told,) * len(observations),
        "recorded",
    )
    return list(host_inputs(recording, checkpoint))


def _ways(
    checkpoint: Checkpoint[OpenVlaOft], program: ProgramExecutor, frames: list[Frame], *, is_compiled: bool
) -> tuple[dict[str, Way], dict[str, Any]]:
    """Every way to run every profile, as ``"profile way"``; and what is worth noting."""
    manifest, shape = program.manifest, model_shape(checkpoint.model)
    ways: dict[str, Way] = {}
    notes: dict[str, Any] = {"policy": manifest.policy.name}
    for profile in manifest.profiles:
        policy = build_policy(manifest.policy.name, profile.policy_config or manifest.policy.config, shape)
        budget = round(profile.keep_ratio * manifest.grid.tokens)
        module = SinglePassStep(checkpoint.model, policy, budget).eval()
        ways[f"{profile.name} onnxruntime"] = OrtWay(program, profile.name)
        ways[f"{profile.name} eager"] = TorchWay(module, manifest)
        if is_compiled:
            started = time.monotonic()
            compiled = TorchWay(torch.compile(module, dynamic=False), manifest)
            try:
                compiled.step(frames[0])
            except Exception as error:  # noqa: BLE001 - whatever the compiler does not like is the finding
                notes[f"{profile.name} compile"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                continue
            notes[f"{profile.name} compile_s"] = round(time.monotonic() - started, 1)
            ways[f"{profile.name} compile"] = compiled
    return ways, notes


def _agreement(ways: dict[str, Way], frames: list[Frame]) -> dict[str, dict[str, float]]:
    """Compare with eager over an episode that begins anew for each way.

    Largest difference of normalised actions among the frames with the same kept set, and the share of those frames: two
    scores a rounding apart may change places.
    """
    answers: dict[str, list[Answer]] = {}
    for name, way in ways.items():
        way.reset()
        answers[name] = [(actions.copy(), kept.copy()) for actions, kept in map(way.step, frames)]
    found = {}
    for name, answer in answers.items():
        pairs = zip(answer, answers[f"{name.split()[0]} eager"], strict=True)
        same = [np.abs(ours[0] - eager[0]).max() for ours, eager in pairs if (ours[1] == eager[1]).all()]
        found[name] = {
            "max_difference": float(max(same, default=np.inf)),
            "same_kept": len(same) / len(frames),
        }
    return found


def _block(way: Way, frames: list[Frame], count: int, settle: int) -> list[int]:
    durations_ns = []
    for index in range(settle + count):
        frame = frames[index % len(frames)]
        started = time.monotonic_ns()
        way.step(frame)
        durations_ns.append(time.monotonic_ns() - started)
    return durations_ns[settle:]


def _show(cells: list[dict[str, Any]], notes: dict[str, Any]) -> None:
    table = Table("profile", "way", "p50 ms", "p99 ms", "x eager", "max difference", "same kept")
    eager = {cell["profile"]: cell["p50_us"] for cell in cells if cell["way"] == "eager"}
    for cell in cells:
        speedup = eager[cell["profile"]] / cell["p50_us"]
        table.add_row(
            cell["profile"],
            cell["way"],
            f"{cell['p50_us'] / 1e3:.2f}",
            f"{cell['p99_us'] / 1e3:.2f}",
            f"{speedup:.2f}",
            f"{cell['max_difference']:.1e}",
            f"{cell['same_kept']:.0%}",
        )
    console = Console()
    console.print(table)
    console.print(notes)


if __name__ == "__main__":
    main()
