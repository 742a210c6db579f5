"""Are chunk, horizon and data the limit, or are the pixels? Privileged state in their place, cloned by a small MLP.

    python -m benchmarks.privileged_state runs/mini/data

The check that comes before a model is trained on a new task: the same demonstrations and the same action chunks, but
the named block, the goal and the sentence's parts as plain numbers. If this does not solve a task, no model will.
The scripted experts are measured beside it. Nothing is rendered. Needs torch and recorded demonstrations.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from benchmarks.results_file import RESULTS, write_results
from saccade.proto.statistics import Statistics
from saccade.runtime.provenance import provenance
from saccade.sim.scoring import SuccessRate
from saccade.sim.scripted_success import scripted_success_rate
from saccade.sim.seeds import held_out_seeds
from saccade.sim.tabletop.table import Table
from saccade.sim.tabletop.tables import BUNDLED, TABLES
from saccade.sim.tabletop.tasks import DIRECTIONS, VERBS, instruction
from saccade.sim.tabletop.world import World
from saccade.sim.training.demonstrations import goal_points
from saccade.sim.training.shards import Shards
from saccade.sim.training.statistics import measure_statistics

_LAST_WORDS = tuple(DIRECTIONS)
_METRES = 10.0
"""Positions enter in units of 0.1 m."""


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--table", type=click.Choice(list(TABLES)), default=BUNDLED.name, show_default=True)
@click.option("--steps", default=8000, show_default=True, help="Optimiser steps of 1,024 samples.")
@click.option("--episodes", default=100, show_default=True, help="Held-out episodes for each task.")
@click.option("--execute", "executes", default="4,8", show_default=True, help="Actions executed of a chunk.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS / "privileged_state.json")
def main(data: Path, table: str, steps: int, episodes: int, executes: str, seed: int, out: Path) -> None:
    """Clone the expert from privileged state with the demonstrations in DATA, then let both act."""
    shards = Shards(sorted(data.glob("demo_*[0-9]")))
    statistics = measure_statistics(shards)
    model = clone(shards, statistics, steps, seed)
    seeds, played_on = held_out_seeds(0, episodes), TABLES[table]
    rows: list[dict[str, Any]] = []
    for template in track(played_on.templates, "acting"):
        rows.append(_row("expert", template, 1, scripted_success_rate(template, seeds, played_on)))
        for execute in map(int, executes.split(",")):
            rate = success_rate(model, statistics, played_on, template, seeds, execute)
            rows.append(_row("privileged state", template, execute, rate))
    write_results(
        out,
        {**provenance(), "settings": {"table": table, "frames": len(shards), "steps": steps}, "rows": rows},
    )
    for row in rows:
        Console().print(
            f"{row['who']}, {row['execute']} executed, {row['task']}: {row['successes']}/{episodes}"
        )


def clone(shards: Shards, statistics: Statistics, steps: int, seed: int) -> nn.Module:
    """Train on every valid label; L1 on normalised chunks, as saccade-mini is."""
    torch.manual_seed(seed)
    frames, labels = np.nonzero(shards.whole("label_valid"))
    goals, chunks = shards.whole("goals")[frames, labels], shards.whole("chunks")[frames, labels]
    sentences = [shards.instructions[frame][label] for frame, label in zip(frames, labels, strict=True)]
    states = torch.from_numpy(state(shards.whole("proprio")[frames], goals, sentences))
    targets = torch.from_numpy(statistics.action.normalise(chunks)).flatten(1)
    width = 384
    sizes = [states.shape[1], width, width, width]
    hidden = [part for one, two in pairwise(sizes) for part in (nn.Linear(one, two), nn.GELU())]
    model = nn.Sequential(*hidden, nn.Linear(width, targets.shape[1]))
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=steps)
    for _ in track(range(steps), "cloning"):
        batch = torch.randint(len(states), (1024,))
        loss = (model(states[batch]) - targets[batch]).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model.eval()


def state(proprio: np.ndarray, goals: np.ndarray, sentences: list[str]) -> np.ndarray:
    """Return what the MLP sees: float32 ``(samples, 19)``.

    Args:
        proprio: Proprioception, ``(samples, 4)``, metres.
        goals: Positions of the named block, and of where it must go, ``(samples, 2, 3)``, metres.
        sentences: Instructions, one for each sample.
    """
    words = [sentence.split() for sentence in sentences]
    template = [[sentence[0] == word for word in VERBS] for sentence in words]
    direction = [[sentence[-1] == word for word in _LAST_WORDS] for sentence in words]
    numbers = [
        proprio * _METRES,
        goals.reshape(len(goals), 6) * _METRES,
        np.array(template),
        np.array(direction),
    ]
    return np.concatenate(numbers, axis=1).astype(np.float32)


@torch.no_grad()
def success_rate(
    model: nn.Module, statistics: Statistics, table: Table, template: str, seeds: range, execute: int
) -> SuccessRate:
    """Let the clone act, ``execute`` actions of each chunk."""
    world, solved = World(table), 0
    for seed in seeds:
        world.reset(np.random.default_rng(seed), template)
        sentence = [instruction(world.task, world.layout)]
        while not world.is_over():
            seen = state(world.proprio()[None], goal_points(world, world.task)[None], sentence)
            actions = model(torch.from_numpy(seen)).reshape(-1, 4).numpy()
            for action in statistics.action.unnormalise(actions)[:execute]:
                if not world.is_over():
                    world.step(action)
        solved += world.succeeded
    return SuccessRate(solved, len(seeds))


def _row(who: str, task: str, execute: int, rate: SuccessRate) -> dict[str, Any]:
    return {
        "who": who,
        "task": task,
        "execute": execute,
        "successes": rate.successes,
        "episodes": rate.episodes,
        "interval95": [round(bound, 4) for bound in rate.interval],
    }


if __name__ == "__main__":
    main()
