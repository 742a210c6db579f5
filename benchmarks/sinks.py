"""Do sinks that do not rank help? Policies that rank by attention, with and without ``exclude_sinks``, on saccade-mini.

    python -m benchmarks.sinks

Bundles go to ``--work``; success in the closed loop, raw, to ``benchmarks/results/sinks.json``, resumed if cut off. The
seeds of both sides of a pair are the same, so that what is compared is who succeeds where the other one does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.cells import Campaign, plan_cells, run_campaign, worker_options
from benchmarks.results_file import RESULTS, read_results, write_results
from benchmarks.selection.bundles import export_all
from benchmarks.selection.contenders import LAYER, Contender
from saccade.proto.manifest import read_manifest
from saccade.sim.connection import table_of
from saccade.sim.seeds import held_out_seeds
from saccade.sim.sweeps.choice import choose_workers

PROFILE, RATIOS = "keep25", (1.0, 0.25)
PAIRS = (
    Contender("fastv", "fastv", {"insertion_layer": LAYER}),
    Contender("vla_pruner", "vla_pruner", {"insertion_layer": LAYER}),
    Contender("vtc_cls", "vtc_cls"),
)


@click.command()
@click.option("--episodes", default=10, show_default=True, help="For each task and cell.")
@click.option("--seed0", default=2000, show_default=True)
@worker_options
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/sinks"), show_default=True)
def main(episodes: int, seed0: int, jobs: int, cluster: str | None, block: int, work: Path) -> None:
    """Export both sides of each pair, run every cell that is missing, and say what came out."""
    console, out = Console(), RESULTS / "sinks.json"
    workers = choose_workers(jobs, cluster, threads=1)
    without = [
        replace(pair, label=f"{pair.label}, no sinks", options={**pair.options, "exclude_sinks": "auto"})
        for pair in PAIRS
    ]
    bundles = export_all([*PAIRS, *without], work / "bundles", RATIOS, console.print)
    campaign = Campaign(
        paths=bundles,
        seeds=held_out_seeds(seed0, episodes),
        execute=4,
        threads=1,
        workers=workers,
        block=block,
        blocks=work / "blocks",
        out=out,
    )
    templates = table_of(read_manifest(next(iter(bundles.values())))).templates
    results = run_campaign(campaign, plan_cells(list(bundles), templates, [PROFILE]), console)
    found = {
        pair.label: {**_sinks(bundles[alone.label]), **_paired(results["cells"], pair.label, alone.label)}
        for pair, alone in zip(PAIRS, without, strict=True)
    }
    write_results(out, {**read_results(out), "sinks": found})
    _show(found, console)


def _sinks(bundle: Path) -> dict[str, Any]:
    """Return the threshold, and how many columns exceed it in a frame of the calibration, by the bundle's receipt."""
    receipt = json.loads((bundle / "receipts" / "calibration.json").read_text(encoding="utf-8"))
    threshold = receipt["decided"][PROFILE]["exclude_sinks"]
    (columns,) = receipt["signals"].values()
    above = [sum(value > threshold for value in frame) for frame in columns]
    return {"threshold": threshold, "tokens": len(columns[0]), "sinks_by_frame": above}


def _paired(cells: Sequence[Mapping[str, Any]], ranked: str, excluded: str) -> dict[str, int]:
    """Count who succeeds, episode by episode, in the same worlds."""
    ours, theirs = (_successes(cells, label) for label in (ranked, excluded))
    both = [(ours[key], theirs[key]) for key in sorted(ours)]
    return {
        "episodes": len(both),
        "both_succeed": both.count((True, True)),
        "only_if_sinks_rank": both.count((True, False)),
        "only_if_they_do_not": both.count((False, True)),
    }


def _successes(cells: Sequence[Mapping[str, Any]], label: str) -> dict[tuple[str, int], bool]:
    return {
        (cell["task"], cell["first_seed"] + number): outcome == "1"
        for cell in cells
        if cell["key"][0] == label
        for number, outcome in enumerate(cell["outcomes"])
    }


def _show(found: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    table = Table(
        "policy", "sinks a frame", "episodes", "sinks rank", "they do not", "only with", "only without"
    )
    for label, row in found.items():
        both, only, other = (
            row[key] for key in ("both_succeed", "only_if_sinks_rank", "only_if_they_do_not")
        )
        mean = sum(row["sinks_by_frame"]) / len(row["sinks_by_frame"])
        counts = (row["episodes"], both + only, both + other, only, other)
        table.add_row(label, f"{mean:.1f} of {row['tokens']}", *map(str, counts))
    console.print(table)


if __name__ == "__main__":
    main()
