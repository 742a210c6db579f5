"""Shards by the dozen: recorded or corrected by several processes, each shard whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import torch
from rich.progress import track

from saccade.export.families.openvla_oft import checkpoint as openvla_oft
from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.sim.seeds import FIRST_TRAINING_SEED
from saccade.sim.training.cloning import Cloning
from saccade.sim.training.demonstrations import record_frames, save_frames
from saccade.sim.training.loop import STATE, load_weights
from saccade.sim.training.mini import MINIS, Mini, build_tokenizer
from saccade.sim.training.rollout import Driver, correct
from saccade.sim.training.stages import HELD_OUT, build_model
from saccade.sim.training.statistics import read_statistics

FRAMES_PER_SHARD = 2000
HELD_OUT_SHARD = 90_000
_CORRECTIONS = 100_000
"""Offset of the seeds of corrections from ``FIRST_TRAINING_SEED``: demonstration shard n is made from seed n, the
held-out shard from ``HELD_OUT_SHARD``, correction shard n from ``_CORRECTIONS + n``."""


def spread(work: Callable[[int], None], shards: Iterable[int], processes: int, title: str) -> None:
    """Make shards one after the other, or several at a time.

    Args:
        work: Makes one shard, and returns at once if it is there; must be picklable by ``spawn``.
        shards: Numbers of the shards.
        processes: How many processes work; a GL context does not survive a fork, so they are spawned.
        title: What the progress display says.
    """
    numbers = list(shards)
    if processes == 1:
        for number in track(numbers, title):
            work(number)
        return
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        for done in track(as_completed([pool.submit(work, n) for n in numbers]), title, len(numbers)):
            done.result()


def record_shard(data: Path, mini: str, number: int) -> None:
    """Record a shard of the scripted expert's demonstrations, unless it is there."""
    path = data / (HELD_OUT if number == HELD_OUT_SHARD else f"demo_{number:04d}")
    if not path.exists():
        frames = record_frames(FIRST_TRAINING_SEED + number, MINIS[mini].table)
        save_frames(path, list(islice(frames, FRAMES_PER_SHARD)))


def correct_shard(run: Path, mini: str, start: Path | None, number: int) -> None:
    """Record a shard of what the model does and the expert would have done, unless it is there."""
    path = run / "data" / f"demo_dagger_{number:04d}"
    if not path.exists():
        driver = driver_of(run, MINIS[mini]) if start is None else driver_from(start, MINIS[mini])
        frames = correct(driver, MINIS[mini].table, FIRST_TRAINING_SEED + _CORRECTIONS + number)
        save_frames(path, list(islice(frames, FRAMES_PER_SHARD)))


def trained(run: Path, mini: Mini) -> OpenVlaOft:
    """Return a run's model as it was last saved."""
    model = build_model(mini, 0)
    load_weights(Cloning(model), run / "cloning" / STATE)
    return model


def driver_of(run: Path, mini: Mini) -> Driver:
    """Return what lets a run's model act."""
    return Driver(trained(run, mini), build_tokenizer(mini), read_statistics(run / "cloning", mini.table))


def driver_from(checkpoint: Path, mini: Mini) -> Driver:
    """Return what lets a finished checkpoint act."""
    model = openvla_oft.load(CheckpointFolder(checkpoint)).model.float()
    return Driver(model, build_tokenizer(mini), read_statistics(checkpoint, mini.table))
