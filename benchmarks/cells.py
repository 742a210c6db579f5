"""Cells of a results file, one for each bundle, template, profile and schedule, and the sweep that fills them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from benchmarks.results_file import read_results, write_results
from saccade.proto.errors import SweepError
from saccade.proto.profile_names import FULL_PROFILE
from saccade.runtime.provenance import provenance
from saccade.sim.evaluation import cell_to_json, score_to_json, time_to_json
from saccade.sim.live_time import LiveTime
from saccade.sim.scoring import score
from saccade.sim.sweeps.block import DEFAULT_SEEDS, Block, episodes_of
from saccade.sim.sweeps.block_files import check_equal
from saccade.sim.sweeps.identity import identity
from saccade.sim.sweeps.sweep import run_sweep
from saccade.sim.sweeps.workers import Workers

_Command = TypeVar("_Command", bound=Callable[..., object])


@dataclass(frozen=True)
class Cell:
    """One template and profile with one bundle.

    Args:
        bundle: Name of the bundle.
        template: Task template.
        profile: Name of the profile.
        is_told_wrong: The model is told another task (control).
        opening: Control steps at the start of each episode that run ``full`` whatever the policy.
    """

    bundle: str
    template: str
    profile: str
    is_told_wrong: bool = False
    opening: int = 0

    @property
    def key(self) -> list[Any]:
        """Values that tell the cell apart in the results file."""
        return [self.bundle, self.template, self.profile, self.is_told_wrong, self.opening]


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """What all cells have in common.

    Args:
        paths: Folder of each bundle, by name.
        seeds: Seeds of every cell: pairs are the same seed of two cells.
        execute: Actions executed from each chunk.
        threads: Threads of the engine; 0 = one for each core.
        live: How much simulated time a control step takes; None = the world waits.
        workers: Who runs the blocks.
        block: Seeds of a block.
        blocks: Folder for the blocks' records; a sweep that was cut off goes on from there.
        out: Path of the results file.
    """

    paths: Mapping[str, Path]
    seeds: range
    execute: int
    threads: int
    live: LiveTime | None = None
    workers: Workers
    block: int = DEFAULT_SEEDS
    blocks: Path
    out: Path


def worker_options(command: _Command) -> _Command:
    """Add the options that say who runs the blocks: ``--jobs``, ``--cluster``, ``--block``."""
    for option in (
        click.option(
            "--block",
            default=DEFAULT_SEEDS,
            show_default=True,
            type=click.IntRange(min=1),
            help="Seeds that a worker runs at a time.",
        ),
        click.option(
            "--cluster", metavar="ADDRESS", help="Ray cluster that runs the blocks: host:port, ray://…, auto."
        ),
        click.option(
            "--jobs", default=2, show_default=True, help="Blocks that run side by side on this machine."
        ),
    ):
        command = option(command)
    return command


def live_time(time_kind: str, latency_ms: float | None, *, jobs: int, cluster: str | None) -> LiveTime | None:
    """Return what ``--time`` and ``--latency-ms`` ask for.

    Raises:
        click.UsageError: A latency without live time, or measured latencies of blocks that slow each other.
    """
    if time_kind == "waits":
        if latency_ms is not None:
            raise click.UsageError("expected --time live with --latency-ms, found a world that waits.")
        return None
    if latency_ms is None and (jobs > 1 or cluster is not None):
        raise click.UsageError(
            f"expected --jobs 1 where latency is measured, found {cluster or jobs}: blocks side by side slow each "
            "other; or choose a fixed --latency-ms."
        )
    return LiveTime(latency_ms)


def plan_cells(
    names: Sequence[str],
    tasks: Sequence[str],
    profiles: Sequence[str],
    control: Sequence[str] = (),
    *,
    opening: int = 0,
) -> list[Cell]:
    """Return every cell: the control with the first bundle; ``full`` with the first bundle alone."""
    cells = [Cell(names[0], task, profile, True) for profile in control for task in tasks]
    cells += [
        Cell(name, task, profile, opening=opening)
        for profile in profiles
        for name in (names if profile != FULL_PROFILE else names[:1])
        for task in tasks
    ]
    return cells


def run_campaign(campaign: Campaign, cells: Sequence[Cell], console: Console) -> dict[str, Any]:
    """Run every block of the cells that has no record yet, write the results file, and return its content.

    Cells of other bundles or schedules that are in the file already stay, if they were made in the same way.

    Raises:
        SweepError: The file or a record was made by another version, of another bundle or with other settings.
    """
    known = {name: identity(path) for name, path in campaign.paths.items()}
    same = {
        "settings": {
            "seeds": [campaign.seeds.start, campaign.seeds.stop],
            "execute": campaign.execute,
            "threads": campaign.threads,
            "time": time_to_json(campaign.live),
        },
        "identity": {name: value for name, value in next(iter(known.values())).items() if name != "bundle"},
    }
    bundles = {name: found["bundle"] for name, found in known.items()}
    before = _before(campaign.out, same, bundles)
    blocks = {tuple(cell.key): list(_whole(campaign, cell).cut(campaign.block)) for cell in cells}
    records = run_sweep(
        [block for part in blocks.values() for block in part],
        campaign.workers,
        campaign.blocks,
        lambda what: console.print(what, style="dim", markup=False, highlight=False),
    )
    left = iter(records)
    entries = [_entry(cell, [next(left) for _ in blocks[tuple(cell.key)]]) for cell in cells]
    asked = [cell.key for cell in cells]
    entries += [entry for entry in before.get("cells", []) if entry["key"] not in asked]
    machines = [*before.get("machines", []), *(record["timings"]["machine"] for record in records)]
    results = {
        **same,
        "bundles": {**before.get("bundles", {}), **bundles},
        "machines": sorted({repr(machine): machine for machine in machines}.values(), key=repr),
        "cells": entries,
    }
    write_results(campaign.out, {**provenance(), **results})
    console.print(f"{len(entries)} cells in {campaign.out}")
    return results


def _whole(campaign: Campaign, cell: Cell) -> Block:
    return Block(
        bundle=cell.bundle,
        path=campaign.paths[cell.bundle],
        template=cell.template,
        profile=cell.profile,
        seeds=campaign.seeds,
        execute=campaign.execute,
        opening=cell.opening,
        is_told_wrong=cell.is_told_wrong,
        live=campaign.live,
        threads=campaign.threads,
    )


def _entry(cell: Cell, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a cell's entry of the results file, from the records of its blocks in the order of their seeds."""
    episodes = [episode for record in records for episode in episodes_of(record)]
    row = score(cell.template, cell.profile, episodes, records[0]["keeps"])
    return {
        "key": cell.key,
        "opening": cell.opening,
        "score": score_to_json(row),
        **cell_to_json(episodes),
    }


def _before(out: Path, same: Mapping[str, Any], bundles: Mapping[str, str]) -> dict[str, Any]:
    """Return what OUT has; cells may be added to it, but what is in it was made in the same way."""
    before = read_results(out)
    if before:
        what_to_do = "move it away, or choose another name"
        for part in ("settings", "identity"):
            if part not in before:
                raise SweepError(
                    f"expected the results of a sweep in {out}, found none with its {part}: {what_to_do}."
                )
            check_equal(before[part], same[part], f"in {out}", what_to_do)
        found = {name: digest for name, digest in before["bundles"].items() if name in bundles}
        check_equal(found, {name: bundles[name] for name in found}, f"in {out}", what_to_do)
    return before
