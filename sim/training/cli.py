"""``saccade train``: how saccade-mini is made, from nothing to a checkpoint, one resumable command."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from saccade.export.families.openvla_oft import checkpoint as openvla_oft
from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.sim.seeds import FIRST_DEVELOPMENT_SEED, FIRST_TRAINING_SEED
from saccade.sim.tabletop.tasks import TEMPLATES
from saccade.sim.training.cloning import Cloning
from saccade.sim.training.demonstrations import record_frames, save_frames
from saccade.sim.training.finish import begin_cloning, read_receipt, write_checkpoint
from saccade.sim.training.loop import STATE, LoopConfig, load_weights
from saccade.sim.training.loop import train as run_loop
from saccade.sim.training.mini import build_tokenizer
from saccade.sim.training.recording import write_recording
from saccade.sim.training.rollout import Driver, correct, success_rate
from saccade.sim.training.stages import HELD_OUT, CloningFactory, PerceptionFactory, build_model
from saccade.sim.training.statistics import read_statistics

FRAMES_PER_SHARD = 2000
_RECORDING_SEED = 900_000
_HELD_OUT = 90_000
_CORRECTIONS = 100_000
"""Offset of the seeds of corrections from ``FIRST_TRAINING_SEED``: demonstration shard n is made from seed n, the
held-out shard from ``_HELD_OUT``, correction shard n from ``_CORRECTIONS + n``."""


@click.group()
def train() -> None:
    """Train saccade-mini in the tabletop. Every step resumes where it was cut off.

    \b
    Example, in this order:
      saccade train record  --run runs/mini --shards 52
      saccade train see     --run runs/mini --steps 1700
      saccade train act     --run runs/mini --steps 6000
      saccade train correct --run runs/mini --shards 10     # then `act` again, with more steps
      saccade train finish  --run runs/mini --out sim/saccade_mini/checkpoint
    \b
    Or train a finished checkpoint further, in a run of its own:
      saccade train record  --run runs/more --shards 40 --first 100
      saccade train correct --run runs/more --shards 10 --start sim/saccade_mini/checkpoint
      saccade train act     --run runs/more --steps 3000 --start sim/saccade_mini/checkpoint
      saccade train finish  --run runs/more --out my-checkpoint
    """


_run_option = click.option(
    "--run",
    type=click.Path(path_type=Path),
    default=Path("runs/mini"),
    show_default=True,
    help="Working directory.",
)

_first_option = click.option(
    "--first", default=0, show_default=True, help="Number of the first shard; use several cores by it."
)
_start_option = click.option(
    "--start",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Go on from this finished checkpoint.",
)


@train.command()
@_run_option
@click.option("--shards", default=52, show_default=True, help=f"Shards of {FRAMES_PER_SHARD} frames.")
@_first_option
def record(run: Path, shards: int, first: int) -> None:
    """Record labelled expert demonstrations, and one held-out shard."""
    data = run / "data"
    wanted = [(data / f"demo_{i:04d}", i) for i in range(first, first + shards)] + [
        (data / HELD_OUT, _HELD_OUT)
    ]
    for path, index in track([item for item in wanted if not item[0].exists()], "recording"):
        save_frames(path, list(islice(record_frames(FIRST_TRAINING_SEED + index), FRAMES_PER_SHARD)))


@train.command()
@_run_option
@click.option("--steps", default=1700, show_default=True)
@click.option(
    "--decay", default=600, show_default=True, help="Steps at the end over which the rate falls to zero."
)
@click.option("--rate", default=1.5e-3, show_default=True, help="Peak learning rate.")
@click.option("--processes", default=2, show_default=True, help="Data-parallel processes; 1 on a GPU.")
def see(run: Path, steps: int, decay: int, rate: float, processes: int) -> None:
    """Phase 1: teach the vision tower from dense labels."""
    config = LoopConfig(
        steps=steps, decay_steps=decay, learning_rate=rate, processes=processes, validate_every=100
    )
    run_loop(PerceptionFactory(run / "data"), config, run / "perception")


@train.command()
@_run_option
@click.option("--steps", default=6000, show_default=True)
@click.option(
    "--decay", default=2000, show_default=True, help="Steps at the end over which the rate falls to zero."
)
@click.option("--rate", default=1.5e-3, show_default=True, help="Peak learning rate.")
@_start_option
@click.option("--processes", default=2, show_default=True, help="Data-parallel processes; 1 on a GPU.")
def act(run: Path, steps: int, decay: int, rate: float, start: Path | None, processes: int) -> None:
    """Phase 2: clone the expert on top of the frozen tower: that of `see`, or of a finished checkpoint."""
    begin_cloning(run, start)
    config = LoopConfig(
        steps=steps, decay_steps=decay, learning_rate=rate, processes=processes, validate_every=250
    )
    run_loop(CloningFactory(run, start), config, run / "cloning")


@train.command("correct")
@_run_option
@click.option("--shards", default=10, show_default=True, help=f"Shards of {FRAMES_PER_SHARD} frames.")
@_first_option
@_start_option
def correct_command(run: Path, shards: int, first: int, start: Path | None) -> None:
    """Let the model act and the expert label what it sees (DAgger); `act` then trains on these too."""
    driver = _driver_of(start) if start else _driver(run)
    for index in track(range(first, first + shards), "correcting"):
        path = run / "data" / f"demo_dagger_{index:04d}"
        if not path.exists():
            seed = FIRST_TRAINING_SEED + _CORRECTIONS + index
            save_frames(path, list(islice(correct(driver, seed), FRAMES_PER_SHARD)))


@train.command()
@_run_option
@click.option("--episodes", default=25, show_default=True, help="Episodes per task, on development seeds.")
def check(run: Path, episodes: int) -> None:
    """Success of the model in training, in process with PyTorch; `saccade sim` is the real measurement."""
    driver = _driver(run)
    seeds = range(FIRST_DEVELOPMENT_SEED, FIRST_DEVELOPMENT_SEED + episodes)
    for template in TEMPLATES:
        Console().print(f"{template}: {success_rate(driver, template, seeds):.0%} of {episodes}")


@train.command()
@_run_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Checkpoint directory to write.")
def finish(run: Path, out: Path) -> None:
    """Write the checkpoint: safetensors in the family's layout, statistics, tokenizer, training receipt.

    Beside it comes ``frames.npz``, for `saccade export --frames`.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    write_recording(out.parent / "frames.npz", seed=_RECORDING_SEED)
    write_checkpoint(
        _trained(run),
        build_tokenizer(),
        read_statistics(run / "cloning"),
        read_receipt(run),
        out,
    )


def _trained(run: Path) -> OpenVlaOft:
    model = build_model(0)
    load_weights(Cloning(model), run / "cloning" / STATE)
    return model


def _driver(run: Path) -> Driver:
    return Driver(_trained(run), build_tokenizer(), read_statistics(run / "cloning"))


def _driver_of(checkpoint: Path) -> Driver:
    model = openvla_oft.load(CheckpointFolder(checkpoint)).model.float()
    return Driver(model, build_tokenizer(), read_statistics(checkpoint))
