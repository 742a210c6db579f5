"""``saccade train``: how saccade's own models are made, from nothing to a checkpoint, one resumable command."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from saccade.proto.errors import CheckpointError
from saccade.proto.writable import check_file, check_folder
from saccade.sim.seeds import FIRST_DEVELOPMENT_SEED
from saccade.sim.training.finish import begin_cloning, read_receipt, write_checkpoint
from saccade.sim.training.loop import STATE, LoopConfig
from saccade.sim.training.loop import train as run_loop
from saccade.sim.training.mini import MINIS, begin_run, build_tokenizer, mini_of
from saccade.sim.training.recording import write_recording
from saccade.sim.training.rollout import success_rate
from saccade.sim.training.shard_jobs import (
    FRAMES_PER_SHARD,
    HELD_OUT_SHARD,
    correct_shard,
    driver_of,
    record_shard,
    spread,
    trained,
)
from saccade.sim.training.stages import CloningFactory, PerceptionFactory
from saccade.sim.training.statistics import read_statistics

_RECORDING_SEED = 900_000
_DEMONSTRATIONS = "data/demo_*"


@click.group()
def train() -> None:
    """Train a model in the simulated tabletop, from nothing to a checkpoint.

    Every command goes on where it was cut off; a run trains one model, which its first command names.

    \b
    Example, in this order:
      saccade train record  --run runs/mini --shards 41 --processes 2
      saccade train see     --run runs/mini
      saccade train act     --run runs/mini
      saccade train correct --run runs/mini --shards 12 --processes 2
      saccade train act     --run runs/mini --steps 3700 --decay 700
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
_model_option = click.option(
    "--model",
    type=click.Choice(sorted(MINIS)),
    help="Model that the run trains; default: the one that it was begun with, else mini-2.",
)
_workers_option = click.option(
    "--processes", default=1, show_default=True, help="Processes that record side by side."
)
_start_option = click.option(
    "--start",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Finished checkpoint to go on from.",
)


@train.command()
@_run_option
@_model_option
@click.option(
    "--shards", default=41, show_default=True, help=f"Shards to record, {FRAMES_PER_SHARD} frames each."
)
@_first_option
@_workers_option
def record(run: Path, model: str | None, shards: int, first: int, processes: int) -> None:
    """Record the scripted expert's demonstrations.

    They come with labels for every patch; one shard more is held out.
    """
    mini = begin_run(run, model)
    check_folder(run / "data")
    numbers = [HELD_OUT_SHARD, *range(first, first + shards)]
    spread(partial(record_shard, run / "data", mini.name), numbers, processes, "recording")


@train.command()
@_run_option
@click.option("--steps", default=2000, show_default=True, help="Optimiser steps in all.")
@click.option(
    "--decay",
    default=800,
    show_default=True,
    help="Steps at the end over which the learning rate falls to zero.",
)
@click.option("--rate", default=3e-3, show_default=True, help="Peak learning rate.")
@click.option("--processes", default=2, show_default=True, help="Data-parallel processes; 1 on a GPU.")
def see(run: Path, steps: int, decay: int, rate: float, processes: int) -> None:
    """Phase 1: teach the vision tower to see."""
    _require(run, _DEMONSTRATIONS, "record")
    config = LoopConfig(
        steps=steps, decay_steps=decay, learning_rate=rate, processes=processes, validate_every=100
    )
    run_loop(PerceptionFactory(run / "data", mini_of(run).name), config, run / "perception")


@train.command()
@_run_option
@click.option("--steps", default=2100, show_default=True, help="Optimiser steps in all.")
@click.option(
    "--decay",
    default=500,
    show_default=True,
    help="Steps at the end over which the learning rate falls to zero.",
)
@click.option("--rate", default=2e-3, show_default=True, help="Peak learning rate.")
@_start_option
@click.option("--processes", default=2, show_default=True, help="Data-parallel processes; 1 on a GPU.")
def act(run: Path, steps: int, decay: int, rate: float, start: Path | None, processes: int) -> None:
    """Phase 2: teach the model to act.

    It learns to imitate the scripted expert, on top of the frozen vision tower of `see`, or of --start.
    """
    _require(run, _DEMONSTRATIONS, "record")
    if start is None:
        _require(run, f"perception/{STATE}", "see")
    mini = mini_of(run)
    begin_cloning(run, mini.table, start)
    config = LoopConfig(
        steps=steps, decay_steps=decay, learning_rate=rate, processes=processes, validate_every=250
    )
    run_loop(CloningFactory(run, mini.name, start), config, run / "cloning")


@train.command("correct")
@_run_option
@click.option(
    "--shards", default=10, show_default=True, help=f"Shards to record, {FRAMES_PER_SHARD} frames each."
)
@_first_option
@_model_option
@_start_option
@_workers_option
def correct_command(
    run: Path, shards: int, first: int, model: str | None, start: Path | None, processes: int
) -> None:
    """Record what the model does (DAgger).

    The model moves the arm and the scripted expert says what it should have done; `act` then trains on that too.
    """
    if start is None:
        _require(run, f"cloning/{STATE}", "act")
    mini = begin_run(run, model)
    check_folder(run / "data")
    spread(
        partial(correct_shard, run, mini.name, start), range(first, first + shards), processes, "correcting"
    )


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
    _require(run, f"cloning/{STATE}", "act")
    mini = mini_of(run)
    driver = driver_of(run, mini)
    seeds = range(FIRST_DEVELOPMENT_SEED, FIRST_DEVELOPMENT_SEED + episodes)
    console, rates = Console(stderr=as_json), {}
    for template in mini.table.templates:
        rates[template] = success_rate(driver, mini.table, template, seeds)
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
    _require(run, f"cloning/{STATE}", "act")
    mini = mini_of(run)
    model = trained(run, mini)
    frames = out.parent / "frames.npz"
    check_folder(out)
    check_file(frames)
    write_recording(frames, _RECORDING_SEED, mini.table)
    write_checkpoint(
        mini,
        model,
        build_tokenizer(mini),
        read_statistics(run / "cloning", mini.table),
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
