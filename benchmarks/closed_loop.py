"""Success in the closed loop: every policy at every profile, and the wrong-instruction control.

    python -m benchmarks.closed_loop --bundle vla_pruner=bundles/vla_pruner --bundle random_keep=bundles/random_keep

Cut off, it resumes: a cell that is in the results file is not run again. ``full`` keeps every token whatever the
policy, so it is run with the first bundle only, and so is the control. With ``--jobs`` several cells run side by side,
each behind a daemon of its own: successes do not depend on it, latencies do. In live time success follows latency, so
that only a fixed one allows several jobs.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.results_file import RESULTS, read_results, write_results
from saccade.proto.manifest import read_manifest
from saccade.proto.profile_names import FULL_PROFILE
from saccade.runtime.provenance import machine, provenance, versions
from saccade.sim.connection import connect
from saccade.sim.display import score_table
from saccade.sim.evaluation import (
    EvaluationPlan,
    Unwatched,
    cell_to_json,
    evaluate,
    score_to_json,
    time_to_json,
)
from saccade.sim.live_time import LiveTime
from saccade.sim.scoring import Score
from saccade.sim.seeds import held_out_seeds
from saccade.sim.tabletop.tables import BUNDLED


@dataclass(frozen=True)
class Cell:
    """One plan of one profile and template with one bundle."""

    bundle: str
    template: str
    profile: str
    is_told_wrong: bool

    @property
    def key(self) -> list[Any]:
        """Values that tell the cell apart in the results file."""
        return [self.bundle, self.template, self.profile, self.is_told_wrong]


def run_cell(
    cell: Cell, *, paths: dict[str, Path], seeds: range, execute: int, threads: int, live: LiveTime | None
) -> tuple[Score, Any]:
    """Run one cell behind its own daemon; return its score and its entry of the results file."""
    plan = EvaluationPlan((cell.template,), (cell.profile,), seeds, execute, cell.is_told_wrong, live)
    bundle = paths[cell.bundle]
    with connect(bundle, threads=threads, view_scorer=scorer_beside(bundle)) as connection:
        found = evaluate(connection, plan, Unwatched())
    (row,) = found.scores()
    return row, {"key": cell.key, "score": score_to_json(row), **cell_to_json(list(found.episodes))}


def scorer_beside(bundle: Path) -> Path | None:
    """Return the scorer bundle ``<bundle>.scorer``, if there is one."""
    scorer = bundle.with_name(f"{bundle.name}.scorer")
    return scorer if scorer.is_dir() else None


@click.command()
@click.option("--bundle", "bundles", multiple=True, required=True, help="NAME=DIRECTORY, may be repeated.")
@click.option("--profiles", default="full,keep50,keep25,keep12.5", show_default=True)
@click.option("--tasks", default=",".join(BUNDLED.templates), show_default=True)
@click.option(
    "--control", default="full,keep25", show_default=True, help="Profiles of the control; empty = none."
)
@click.option("--episodes", default=100, show_default=True, help="For each cell.")
@click.option("--seed0", default=0, show_default=True)
@click.option("--execute", default=4, show_default=True, help="Actions executed from each chunk.")
@click.option("--threads", default=0, show_default=True, help="Threads of the engine; 0 = one for each core.")
@click.option("--jobs", default=1, show_default=True, help="Cells that run side by side.")
@click.option(
    "--time",
    "time_kind",
    type=click.Choice(["waits", "live"]),
    default="waits",
    show_default=True,
    help="Whether the simulated world waits while the model thinks, or runs on.",
)
@click.option(
    "--latency-ms", type=float, help="With --time live: a fixed latency; default: what is measured."
)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS / "closed_loop.json")
def main(  # noqa: PLR0913, PLR0917 - one for each option
    bundles: tuple[str, ...],
    profiles: str,
    tasks: str,
    control: str,
    episodes: int,
    seed0: int,
    execute: int,
    threads: int,
    jobs: int,
    time_kind: str,
    latency_ms: float | None,
    out: Path,
) -> None:
    """Run every cell that OUT does not have yet."""
    live = _live(time_kind, latency_ms, jobs)
    paths = dict(_named(bundle) for bundle in bundles)
    cells = plan_cells(list(paths), _words(tasks), _words(profiles), _words(control))
    campaign = Campaign(
        paths=paths,
        seeds=(seed0, seed0 + episodes),
        execute=execute,
        threads=threads,
        jobs=jobs,
        out=out,
        live=live,
    )
    try:
        run_campaign(campaign, cells, Console())
    except SettingsChangedError as error:
        raise click.UsageError(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """What all cells have in common.

    Args:
        paths: Folder of each bundle, by name.
        seeds: First seed and one past the last.
        execute: Actions executed from each chunk.
        threads: Threads of the engine; 0 = one for each core.
        jobs: Number of cells that run side by side.
        out: Path of the results file.
        live: How much simulated time a control step takes; None = the world waits.
    """

    paths: dict[str, Path]
    seeds: tuple[int, int]
    execute: int
    threads: int
    jobs: int
    out: Path
    live: LiveTime | None = None


class SettingsChangedError(Exception):
    """The results file was made with other settings."""


def run_campaign(campaign: Campaign, cells: list[Cell], console: Console) -> dict[str, Any]:
    """Run every cell that the results file does not have yet; return its content.

    Raises:
        SettingsChangedError: The file was made with other settings.
    """
    out = campaign.out
    results = _resume(
        out,
        {
            "seeds": list(campaign.seeds),
            "execute": campaign.execute,
            "threads": campaign.threads,
            "jobs": campaign.jobs,
            **({} if campaign.live is None else {"time": time_to_json(campaign.live)}),
            "simulator": _simulator(),
            "machine": machine(),
            "versions": versions(),
            "bundles": {name: _fingerprint(path) for name, path in campaign.paths.items()},
        },
    )
    wanted = [cell for cell in cells if not _has(results, cell)]
    first, stop = campaign.seeds
    run = partial(
        run_cell,
        paths=campaign.paths,
        seeds=held_out_seeds(first, stop - first),
        execute=campaign.execute,
        threads=campaign.threads,
        live=campaign.live,
    )
    spawn = get_context("spawn")  # GL contexts do not survive a fork
    with ProcessPoolExecutor(campaign.jobs, mp_context=spawn) as pool:
        for number, (cell, (row, entry)) in enumerate(
            zip(wanted, pool.map(run, wanted), strict=True), start=1
        ):
            results["cells"].append(entry)
            write_results(out, {**provenance(), **results})
            told = " (told wrong)" if cell.is_told_wrong else ""
            console.print(f"{number} of {len(wanted)}: {cell.bundle}{told}", style="dim")
            console.print(score_table([row]))
    console.print(f"{len(results['cells'])} cells in {out}")
    return results


def plan_cells(names: list[str], tasks: list[str], profiles: list[str], control: list[str]) -> list[Cell]:
    """Return every cell: the control with the first bundle; ``full`` with the first bundle alone."""
    cells = [Cell(names[0], task, profile, True) for profile in control for task in tasks]
    cells += [
        Cell(name, task, profile, False)
        for profile in profiles
        for name in (names if profile != FULL_PROFILE else names[:1])
        for task in tasks
    ]
    return cells


def _resume(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what OUT has; bundles may be added to it, but nothing that is in it may change."""
    before = read_results(out)
    if not before:
        return {"settings": settings, "cells": []}
    known, asked = before["settings"], dict(settings)
    asked["bundles"] = {**known["bundles"], **settings["bundles"]}
    changed = {name for name, value in known["bundles"].items() if asked["bundles"][name] != value}
    if changed or {**asked, "bundles": {}} != {**known, "bundles": {}}:
        raise SettingsChangedError(
            f"expected to resume {out.name} with its own settings {known}, found {settings}: "
            f"move it away, or choose another --out."
        )
    return {"settings": asked, "cells": before["cells"]}


def _has(results: dict[str, Any], cell: Cell) -> bool:
    return any(entry["key"] == cell.key for entry in results["cells"])


def _live(time_kind: str, latency_ms: float | None, jobs: int) -> LiveTime | None:
    if time_kind == "waits":
        if latency_ms is not None:
            raise click.UsageError("expected --time live with --latency-ms, found a world that waits.")
        return None
    if latency_ms is None and jobs > 1:
        raise click.UsageError(
            f"expected --jobs 1 where latency is measured, found {jobs}: cells side by side slow each other; or "
            "choose a fixed --latency-ms."
        )
    return LiveTime(latency_ms)


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _named(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals:
        raise click.BadParameter(f"expected NAME=DIRECTORY, found {text!r}")
    return name, Path(path)


def _simulator() -> str:
    """Digest of the code that decides what an episode is and whether it succeeded."""
    digest = hashlib.sha256()
    root = Path(str(files("saccade.sim")))
    for file in sorted([root / "closed_loop.py", *(root / "tabletop").rglob("*.py")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _fingerprint(bundle: Path) -> str:
    """Digest of what acts: graphs, weights, tokenizer, scales and rules. When it was exported does not matter."""
    manifest = read_manifest(bundle)
    files = {path: spec.sha256 for path, spec in manifest.files.items() if not path.startswith("receipts/")}
    rules: list[Any] = [manifest.policy, manifest.limits, manifest.profiles, sorted(files.items())]
    if (scorer := scorer_beside(bundle)) is not None:
        rules.append(_fingerprint(scorer))
    return hashlib.sha256(repr(rules).encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
