"""The one training loop: seeded, resumable, data-parallel, with a constant rate that decays at the end.

A step's samples depend on (seed, step, rank) alone, so a run that was cut off goes on as if nothing had
happened. State is kept in safetensors with its counters in the header: no pickle.

On a CPU one process for each core beats one process with many threads; on a GPU use one process.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import ProcessException, spawn
from torch.nn.parallel import DistributedDataParallel

from saccade.export.loading.weight_file import write_weights
from saccade.proto.errors import SimulatorError
from saccade.runtime.cores import usable_cores
from saccade.sim.training.fast_attention import fast_attention
from saccade.sim.training.optimiser import Optimiser

STATE = "state.safetensors"
_MODULE, _OPTIMISER = "module.", "optimiser."
_GIB = 2**30
_MALLOC = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in {
        "hugetlb": 1,
        "mmap_threshold": 8 * _GIB,
        "trim_threshold": 16 * _GIB,
        "top_pad": _GIB,
    }.items()
)
"""Keeps freed memory, in large pages: the next step wants as much, and fetching it anew costs a quarter of a step."""


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train.

    Args:
        steps: How many optimiser steps there are in all; may be raised later to go on.
        decay_steps: How many steps at the end the rate takes to fall to zero.
        warmup_steps: How many steps at the start the rate takes to rise.
        learning_rate: Peak rate of the optimiser.
        weight_decay: Decoupled weight decay.
        batch: How many samples each step takes, in each process.
        processes: How many data-parallel processes run.
        seed: Seed that weights and samples follow from.
        validate_every: How many steps lie between validations.
        save_every_s: How many seconds lie between checkpoints at most.
        is_compiled: Whether ``torch.compile`` fuses the step: minutes at the start, a third faster afterwards.
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
    save_every_s: float = 180.0
    is_compiled: bool = True


class Stage(Protocol):
    """What is trained, and a source of samples."""

    @property
    def module(self) -> nn.Module:
        """Return what is trained; its forward takes a batch and returns a loss and metrics."""
        ...

    def batch(self, rng: np.random.Generator, size: int) -> Any:
        """Draw training samples."""
        ...

    def validate(self, device: torch.device) -> dict[str, float]:
        """Measure the module on held-out samples."""
        ...


class StageFactory(Protocol):
    """Builds a stage inside each process; must be picklable by ``spawn``."""

    def __call__(self, seed: int) -> Stage:
        """Build the stage with fresh weights."""
        ...


def train(build: StageFactory, config: LoopConfig, run: Path) -> None:
    """Train until ``config.steps``; continue from ``run/state.safetensors`` if there is one.

    Writes ``state.safetensors``, ``config.json``, and one line per validation to ``log.jsonl``; nothing if those steps
    are already done.

    Raises:
        SimulatorError: One of several processes failed; the others were ended.
    """
    if (run / STATE).exists() and _clock(run / STATE)["step"] >= config.steps:
        return
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    with tempfile.TemporaryDirectory() as scratch:
        if config.processes == 1:
            _work(0, build, config, run, Path(scratch))
        else:
            try:
                with patch.dict(os.environ, {"GLIBC_TUNABLES": _MALLOC, **os.environ}):
                    spawn(_work, (build, config, run, Path(scratch)), nprocs=config.processes)
            except ProcessException as error:
                raise SimulatorError(
                    f"expected {config.processes} processes that train to the end, found one that failed: "
                    f"{error.msg.strip().splitlines()[-1]}. What was saved is kept: mend that, and ask again to go on."
                ) from error


def learning_rate(config: LoopConfig, step: int) -> float:
    """Return the rate of a step: warm-up, constant, linear decay to zero over the last ``decay_steps``."""
    rise = min(1.0, (step + 1) / config.warmup_steps)
    fall = min(1.0, (config.steps - step) / config.decay_steps)
    return config.learning_rate * rise * fall


def load_weights(module: nn.Module, state: Path) -> None:
    """Load a module's weights from a run's state, for the next stage."""
    with safe_open(state, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(_MODULE)]  # noqa: SIM118 - not a mapping
        module.load_state_dict({name.removeprefix(_MODULE): file.get_tensor(name) for name in names})


def _work(rank: int, build: StageFactory, config: LoopConfig, run: Path, scratch: Path) -> None:
    """One process of a run.

    What ``torch.compile`` makes lies in ``scratch``: a compiler that is killed leaves half a library behind, and a run
    that found it again could never go on.
    """
    if config.processes > 1:
        # torch tells a process whose parent died by SIGINT, which whatever runs in the background inherits as ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.is_compiled:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(scratch / "compiled")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1 if config.processes > 1 else usable_cores())
    if config.processes > 1:
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(
            backend, init_method=f"file://{scratch}/rendezvous", rank=rank, world_size=config.processes
        )
    torch.manual_seed(config.seed)
    stage = build(config.seed)
    stage.module.to(device)
    with fast_attention() if device.type == "cpu" else nullcontext():
        _Trainer(stage, config, run, rank, device).train()
    if config.processes > 1:
        distributed.destroy_process_group()


class _Trainer:
    """One process's share of a run, from the last checkpoint to the end."""

    def __init__(self, stage: Stage, config: LoopConfig, run: Path, rank: int, device: torch.device) -> None:
        self._stage, self._config, self._run, self._rank, self._device = stage, config, run, rank, device
        self._optimiser = Optimiser(stage.module, config.weight_decay)
        self._step, self._seconds = 0, 0.0
        if (run / STATE).exists():
            self._resume()
        forward = torch.compile(stage.module) if config.is_compiled else stage.module
        self._forward = DistributedDataParallel(forward) if distributed.is_initialized() else forward

    def train(self) -> None:
        """Step until ``config.steps``."""
        config = self._config
        smooth: dict[str, float] = {}
        started, saved = time.monotonic() - self._seconds, self._seconds
        with _progress(self._rank) as progress:
            bar = progress.add_task("training", total=config.steps, completed=self._step, note="")
            while self._step < config.steps:
                for name, value in self._one_step().items():
                    smooth[name] = 0.98 * smooth.get(name, float(value)) + 0.02 * float(value)
                progress.update(bar, completed=self._step, note=_format(smooth))
                self._seconds = time.monotonic() - started
                is_due = self._step % config.validate_every == 0 or self._step == config.steps
                if self._rank == 0:
                    if is_due:
                        self._validate(smooth)
                    if is_due or self._seconds > saved + config.save_every_s:
                        self._save()
                        saved = self._seconds
                if is_due and distributed.is_initialized():
                    distributed.barrier()

    def _one_step(self) -> dict[str, Tensor]:
        config = self._config
        rng = np.random.default_rng([config.seed, self._step, self._rank])
        batch = [item.to(self._device) for item in self._stage.batch(rng, config.batch)]
        with torch.autocast(self._device.type, dtype=torch.bfloat16):
            loss, metrics = self._forward(*batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self._stage.module.parameters(), 1.0)
        self._optimiser.step(learning_rate(config, self._step))
        self._step += 1
        return metrics

    def _validate(self, smooth: dict[str, float]) -> None:
        module = self._stage.module
        module.eval()
        with torch.no_grad(), torch.autocast(self._device.type, dtype=torch.bfloat16):
            validation = self._stage.validate(self._device)
        module.train()
        record = {
            "step": self._step,
            "samples": self._step * self._config.batch * self._config.processes,
            "seconds": round(self._seconds, 1),
            **{f"train_{name}": round(value, 5) for name, value in smooth.items()},
            **{name: round(value, 5) for name, value in validation.items()},
        }
        with (self._run / "log.jsonl").open("a") as log:
            log.write(json.dumps(record) + "\n")

    def _save(self) -> None:
        module = self._stage.module
        tensors = {f"{_MODULE}{name}": value for name, value in module.state_dict().items()}
        tensors |= {f"{_OPTIMISER}{name}": value for name, value in self._optimiser.tensors().items()}
        tensors = {name: value.detach().contiguous().clone().cpu() for name, value in tensors.items()}
        clock = json.dumps({"step": self._step, "seconds": self._seconds})
        partial = self._run / f"{STATE}.partial"
        write_weights(tensors, partial, {"clock": clock})
        os.replace(partial, self._run / STATE)

    def _resume(self) -> None:
        clock = _clock(self._run / STATE)
        with safe_open(self._run / STATE, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(_OPTIMISER)]  # noqa: SIM118 - not a mapping
            remembered = {name.removeprefix(_OPTIMISER): file.get_tensor(name) for name in names}
        self._step, self._seconds = clock["step"], clock["seconds"]
        load_weights(self._stage.module, self._run / STATE)
        self._optimiser.load(remembered)


def _clock(state: Path) -> dict[str, Any]:
    """Return the step and the seconds that a state was saved at."""
    with safe_open(state, framework="pt") as file:
        clock: dict[str, Any] = json.loads(file.metadata()["clock"])
    return clock


def _progress(rank: int) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        disable=rank != 0,
    )


def _format(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
