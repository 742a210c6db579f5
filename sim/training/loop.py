"""The one training loop: seeded, resumable, data-parallel, with a constant rate that decays at the end.

A step's samples depend on (seed, step, rank) alone, so a run that was cut off goes on as if nothing had happened. State is
kept in safetensors with its counters in the header: no pickle.

On a CPU one process for each core beats one process with many threads; on a GPU use one process.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train.

    Args:
        steps: Optimiser steps in all; may be raised later to go on.
        decay_steps: Steps at the end over which the rate falls to zero.
        warmup_steps: Steps at the start over which the rate rises.
        learning_rate: Peak rate of AdamW.
        weight_decay: Of AdamW.
        batch: Samples per step and process.
        processes: Data-parallel processes.
        seed: Of weights and samples.
        validate_every: Steps between validations and checkpoints.
    """

    steps: int
    decay_steps: int
    warmup_steps: int = 200
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    batch: int = 32
    processes: int = 2
    seed: int = 0
    validate_every: int = 200


class Stage(Protocol):
    """What is trained: an ``nn.Module`` whose forward returns a loss and metrics, and a source of batches."""

    module: nn.Module

    def batch(self, rng: np.random.Generator, size: int) -> Any:
        """Draw training samples."""
        ...

    def validate(self, device: torch.device) -> dict[str, float]:
        """Measure on held-out samples."""
        ...


class StageFactory(Protocol):
    """Builds a stage inside each process; must be picklable by ``spawn``."""

    def __call__(self, seed: int) -> Stage:
        """Build the stage with fresh weights."""
        ...


def train(build: StageFactory, config: LoopConfig, run: Path) -> None:
    """Train until ``config.steps``; continue from ``run/state.safetensors`` if there is one.

    Writes ``state.safetensors`` and one line per validation to ``log.jsonl``.
    """
    run.mkdir(parents=True, exist_ok=True)
    if config.processes == 1:
        _work(0, build, config, run, "")
        return
    with tempfile.NamedTemporaryFile() as rendezvous:
        os.unlink(rendezvous.name)
        multiprocessing.spawn(_work, (build, config, run, f"file://{rendezvous.name}"), nprocs=config.processes)
        Path(rendezvous.name).touch()


def learning_rate(config: LoopConfig, step: int) -> float:
    """Warm-up, constant, linear decay to zero over the last ``decay_steps``."""
    rise = min(1.0, (step + 1) / config.warmup_steps)
    fall = min(1.0, (config.steps - step) / config.decay_steps)
    return config.learning_rate * rise * fall


def load_weights(module: nn.Module, state: Path) -> None:
    """Load a module's weights from a run's state, for the next stage."""
    prefix = "module."
    with safe_open(state, framework="pt") as file:
        module.load_state_dict({k[len(prefix) :]: file.get_tensor(k) for k in file.keys() if k.startswith(prefix)})  # noqa: SIM118


def _work(rank: int, build: StageFactory, config: LoopConfig, run: Path, rendezvous: str) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1 if config.processes > 1 else os.cpu_count() or 1)
    if rendezvous:
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, init_method=rendezvous, rank=rank, world_size=config.processes)
    torch.manual_seed(config.seed)
    stage = build(config.seed)
    stage.module.to(device)
    optimiser = torch.optim.AdamW(
        stage.module.parameters(),
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=config.weight_decay,
        fused=True,
    )
    clock = _resume(stage.module, optimiser, run / "state.safetensors")
    wrapped = DistributedDataParallel(stage.module) if rendezvous else stage.module
    with _progress(config, rank) as progress, _fast_attention(device):
        _steps(rank, stage, wrapped, optimiser, config, run, clock, progress, device)
    if rendezvous:
        distributed.destroy_process_group()


@dataclass
class _Clock:
    step: int = 0
    seconds: float = 0.0


def _steps(
    rank: int,
    stage: Stage,
    wrapped: nn.Module,
    optimiser: torch.optim.Optimizer,
    config: LoopConfig,
    run: Path,
    clock: _Clock,
    progress: Progress,
    device: torch.device,
) -> None:
    bar = progress.add_task("training", total=config.steps, completed=clock.step, note="")
    smooth: dict[str, float] = {}
    started = time.monotonic() - clock.seconds
    while clock.step < config.steps:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config, clock.step)
        rng = np.random.default_rng([config.seed, clock.step, rank])
        batch = [item.to(device) for item in stage.batch(rng, config.batch)]
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss, metrics = wrapped(*batch)
        loss.backward()
        nn.utils.clip_grad_norm_(stage.module.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        clock.step += 1
        for name, value in metrics.items():
            smooth[name] = 0.98 * smooth.get(name, float(value)) + 0.02 * float(value)
        progress.update(bar, completed=clock.step, note=_format(smooth))
        if clock.step % config.validate_every == 0 or clock.step == config.steps:
            clock.seconds = time.monotonic() - started
            if rank == 0:
                _validate_and_save(stage, optimiser, config, run, clock, smooth, device)
            if distributed.is_initialized():
                distributed.barrier()


def _validate_and_save(
    stage: Stage,
    optimiser: torch.optim.Optimizer,
    config: LoopConfig,
    run: Path,
    clock: _Clock,
    smooth: dict[str, float],
    device: torch.device,
) -> None:
    stage.module.eval()
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
        validation = stage.validate(device)
    stage.module.train()
    record = {
        "step": clock.step,
        "samples": clock.step * config.batch * config.processes,
        "seconds": round(clock.seconds, 1),
        **{f"train_{name}": round(value, 5) for name, value in smooth.items()},
        **{name: round(value, 5) for name, value in validation.items()},
    }
    with (run / "log.jsonl").open("a") as log:
        log.write(json.dumps(record) + "\n")
    tensors = {f"module.{name}": value for name, value in stage.module.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    tensors = {name: value.detach().contiguous().clone().cpu() for name, value in tensors.items()}
    header = {"clock": json.dumps(asdict(clock)), "config": json.dumps(asdict(config))}
    partial = run / "state.partial"
    save_file(tensors, partial, metadata=header)
    os.replace(partial, run / "state.safetensors")


def _resume(module: nn.Module, optimiser: torch.optim.Optimizer, path: Path) -> _Clock:
    if not path.exists():
        return _Clock()
    state: dict[int, dict[str, Tensor]] = {}
    with safe_open(path, framework="pt") as file:
        clock = _Clock(**json.loads(file.metadata()["clock"]))
        for key in file.keys():  # noqa: SIM118 - not a dict
            if key.startswith("optimiser."):
                _, index, name = key.split(".")
                state.setdefault(int(index), {})[name] = file.get_tensor(key)
    load_weights(module, path)
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return clock


def _progress(config: LoopConfig, rank: int) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        disable=rank != 0,
    )


@contextlib.contextmanager
def _fast_attention(device: torch.device) -> Iterator[None]:
    """On CPUs the fused attention's backward pass is slower than plain products for a few hundred tokens."""
    if device.type != "cpu":
        yield
        return
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # also read by the CPU path
    with sdpa_kernel(SDPBackend.MATH):
        yield


def _format(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
