"""``saccade train``: how saccade-mini is made, from nothing to a checkpoint, one resumable command."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from saccade.export.families.openvla_oft import checkpoint as openvla_oft
from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.errors import CheckpointError
from saccade.proto.writable import check_file, check_folder
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
_DEMONSTRATIONS = "data/demo_*"
_HELD_OUT = 90_000
_CORRECTIONS = 100_000
"""Offset of the seeds of corrections from ``FIRST_TRAINING_SEED``: demonstration shard n is made from seed n, the
held-out shard from ``_HELD_OUT``, correction shard n from ``_CORRECTIONS + n``."""


@click.group()
def train() -> None:
    """Train saccade-mini in the simulated tabletop, from nothing to a checkpoint.

    Every command goes on where it was cut off.

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
    help="Folder of this training run: its data, its weights.",
)

_first_option = click.option(
    "--first",
    default=0,
    show_default=True,
    help="Number of the first shard, so that several processes can share the work.",
)
_start_option = click.option(
    "--start",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Finished checkpoint to go on from.",
)


@train.command()
@_run_option
@click.option(
    "--shards", default=52, show_default=True, help=f"Shards to record, {FRAMES_PER_SHARD} frames each."
)
@_first_option
def record(run: Path, shards: int, first: int) -> None:
    """Record the scripted expert's demonstrations.

    They come with labels for every patch; one shard more is held out.
    """
    data = run / "data"
    check_folder(data)
    wanted = [(data / f"demo_{i:04d}", i) for i in range(first, first + shards)] + [
        (data / HELD_OUT, _HELD_OUT)
    ]
    for path, index in track([item for item in wanted if not item[0].exists()], "recording"):
        save_frames(path, list(islice(record_frames(FIRST_TRAINING_SEED + index), FRAMES_PER_SHARD)))


@train.command()
@_run_option
@click.option("--steps", default=1700, show_default=True, help="Optimiser steps in all.")
@click.option(
    "--decay",
    default=600,
    show_default=True,
    help="Steps at the end over which the learning rate falls to zero.",
)
@click.option("--rate", default=1.5e-3, show_default=True, help="Peak learning rate.")
@click.option("--processes", default=2, show_default=True, help="Data-parallel processes; 1 on a GPU.")
def see(run: Path, steps: int, decay: int, rate: float, processes: int) -> None:
    """Phase 1: teach the vision tower to see."""
    _require(run, _DEMONSTRATIONS, "record")
    config = LoopConfig(
        steps=steps, decay_steps=decay, learning_rate=rate, processes=processes, validate_every=100
    )
    run_loop(PerceptionFactory(run / "data"), config, run / "perception")


@train.command()
@_run_option
@click.option("--steps", default=6000, show_default=True, help="Optimiser steps in all.")
@click.option(
    "--decay",
    default=2000,
    show_default=True,
    help="Steps at the end over which the learning rate falls to zero.",
)
@click.option("--rate", default=1.5e-3, show_default=True, help="Peak learning rate.")
@_start_option
@click.option("--processes", default=2, show_default=True, help="Data-parallel processes; 1 on a GPU.")
def act(run: Path, steps: int, decay: int, rate: float, start: Path | None, processes: int) -> None:
    """Phase 2: teach the model to act.

    It learns to imitate the scripted expert, on top of the frozen vision tower of `see`, or of --start.
    """
    _require(run, _DEMONSTRATIONS, "record")
    if start is None:
        _require(run, f"perception/{STATE}", "see")
    begin_cloning(run, start)
    config = LoopConfig(
        steps=steps, decay_steps=decay, learning_rate=rate, processes=processes, validate_every=250
    )
    run_loop(CloningFactory(run, start), config, run / "cloning")


@train.command("correct")
@_run_option
@click.option(
    "--shards", default=10, show_default=True, help=f"Shards to record, {FRAMES_PER_SHARD} frames each."
)
@_first_option
@_start_option
def correct_command(run: Path, shards: int, first: int, start: Path | None) -> None:
    """Record what the model does (DAgger).

    The model moves the arm and the scripted expert says what it should have done; `act` then trains on that too.
    """
    driver = _driver_of(start) if start else _driver(run)
    check_folder(run / "data")
    for index in track(range(first, first + shards), "correcting"):
        path = run / "data" / f"demo_dagger_{index:04d}"
        if not path.exists():
            seed = FIRST_TRAINING_SEED + _CORRECTIONS + index
            save_frames(path, list(islice(correct(driver, seed), FRAMES_PER_SHARD)))


@train.command()
@_run_option
@click.option(
    "--episodes", default=25, show_default=True, help="Episodes of each task, on development seeds."
)
@click.option("--json", "as_json", is_flag=True, help="Print the success rates as JSON.")
def check(run: Path, episodes: int, as_json: bool) -> None:
    """Show how often the model succeeds so far.

    It runs in this process with PyTorch; the real measurement is `saccade sim`.
    """
    driver = _driver(run)
    seeds = range(FIRST_DEVELOPMENT_SEED, FIRST_DEVELOPMENT_SEED + episodes)
    console, rates = Console(stderr=as_json), {}
    for template in TEMPLATES:
        rates[template] = success_rate(driver, template, seeds)
        console.print(f"{template}: {rates[template]:.0%} of {episodes}")
    if as_json:
        click.echo(json.dumps({"episodes": episodes, "success": rates}))


@train.command()
@_run_option
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of the checkpoint to write."
)
def finish(run: Path, out: Path) -> None:
    """Write the checkpoint.

    It holds weights, statistics, tokenizer and how it was trained; beside it comes frames.npz, for `saccade export
    --frames`.
    """
    model = _trained(run)
    frames = out.parent / "frames.npz"
    check_folder(out)
    check_file(frames)
    write_recording(frames, seed=_RECORDING_SEED)
    write_checkpoint(
        model,
        build_tokenizer(),
        read_statistics(run / "cloning"),
        read_receipt(run),
        out,
    )


def _require(run: Path, made: str, command: str) -> None:
    """Refuse to begin where what another command makes is missing.

    Raises:
        CheckpointError: There is no ``made`` in ``run``.
    """
    if not any(run.glob(made)):
        raise CheckpointError(
            f"expected {made} in the run {run}, found none: type `saccade train {command} --run {run}` first."
        )


def _trained(run: Path) -> OpenVlaOft:
    _require(run, f"cloning/{STATE}", "act")
    model = build_model(0)
    load_weights(Cloning(model), run / "cloning" / STATE)
    return model


def _driver(run: Path) -> Driver:
    return Driver(_trained(run), build_tokenizer(), read_statistics(run / "cloning"))


def _driver_of(checkpoint: Path) -> Driver:
    model = openvla_oft.load(CheckpointFolder(checkpoint)).model.float()
    return Driver(model, build_tokenizer(), read_statistics(checkpoint))
