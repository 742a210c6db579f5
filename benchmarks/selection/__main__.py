"""Compare every token-selection policy on saccade-mini.

    python -m benchmarks.selection                 # everything; cut off, it goes on where it stopped
    python -m benchmarks.selection --stage loop --cluster head:6379   # the long part, on a Ray cluster
    python -m benchmarks.selection --stage report  # table and charts from what is there

Bundles and the records of blocks go to ``--work``; results and table to ``--results``, chart and contact sheet to
``benchmarks/charts``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from benchmarks.cells import Campaign, Cell, live_time, plan_cells, run_campaign, worker_options
from benchmarks.results_file import RESULTS, read_results, write_results
from benchmarks.selection.bundles import export_all
from benchmarks.selection.contact_sheet import contact_sheet
from benchmarks.selection.contenders import (
    ABLATIONS,
    BASIS,
    CONTENDERS,
    KEEP_RATIOS,
    OPENED,
    OPENING,
    REFERENCES,
    Contender,
)
from benchmarks.selection.latency import measure_latencies
from benchmarks.selection.pareto import pareto_chart
from benchmarks.selection.phases import record, replay
from benchmarks.selection.table import markdown, rows, summary
from saccade.proto.errors import SaccadeError
from saccade.proto.manifest import read_manifest
from saccade.runtime.provenance import provenance
from saccade.sim.connection import table_of
from saccade.sim.seeds import held_out_seeds
from saccade.sim.sweeps.choice import choose_workers

HERE = Path(__file__).parents[1]
STAGES = ("bundles", "phases", "latency", "loop", "report")
PHASE_SEEDS = range(3000, 3005)
MOVING = "intercept"
"""Template whose things move: the ablations are shown on it apart, where the table has it."""


@dataclass(frozen=True)
class _Field:
    """Who is compared, under which name.

    Args:
        results: Folder of the results files.
        name: Beginning of their names.
        contenders: Rows.
        references: Labels that every row is paired with, besides ``full``.
        is_live: The simulated world runs on while the model thinks.
    """

    results: Path
    name: str
    contenders: Sequence[Contender]
    references: Sequence[str]
    is_live: bool

    @property
    def loop(self) -> Path:
        """Results of the closed loop: one file for each kind of time."""
        return self.results / f"{self.name}{'_live' if self.is_live else ''}.json"

    def measured(self, what: str) -> Path:
        """Results of what does not depend on the loop's time: ``phases``, ``latency``."""
        return self.results / f"{self.name}_{what}.json"


@click.command()
@click.option("--stage", "stages", multiple=True, type=click.Choice(STAGES), help="Default: all of them.")
@click.option(
    "--only", multiple=True, help="Label of a contender; default: all. The first one's `full` is run."
)
@click.option("--ablations", is_flag=True, help="VLA-Pruner's ablations instead of the field.")
@click.option(
    "--profiles", default="keep12.5,keep25,keep50,full", show_default=True, help="Run in this order."
)
@click.option(
    "--opening",
    default=OPENING,
    show_default=True,
    type=click.IntRange(min=0),
    help=f"Full control steps that every policy gets when {' and '.join(OPENED)} are run again; 0 = not run again.",
)
@click.option("--episodes", default=50, show_default=True, help="For each task and cell, on the same seeds.")
@click.option("--seed0", default=2000, show_default=True)
@click.option(
    "--time",
    "time_kind",
    type=click.Choice(["waits", "live"]),
    default="waits",
    show_default=True,
    help="Whether the simulated world waits while the model thinks; live: name the winners with --only.",
)
@click.option(
    "--latency-ms", type=float, help="With --time live: of each control step; default: as measured."
)
@worker_options
@click.option("--rounds", default=60, show_default=True, help="Of the latency measurement.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/selection"), show_default=True)
@click.option(
    "--results", type=click.Path(path_type=Path), default=RESULTS, help="Default: benchmarks/results."
)
def main(  # noqa: PLR0913, PLR0917 - one for each option
    stages: tuple[str, ...],
    only: tuple[str, ...],
    ablations: bool,
    profiles: str,
    opening: int,
    episodes: int,
    seed0: int,
    time_kind: str,
    latency_ms: float | None,
    jobs: int,
    cluster: str | None,
    block: int,
    rounds: int,
    work: Path,
    results: Path,
) -> None:
    """Run the stages that are asked for, in their order."""
    live = live_time(time_kind, latency_ms, jobs=jobs, cluster=cluster)
    console, wanted = Console(), set(stages or STAGES)
    field = _field(results, only, is_ablation=ablations, is_live=live is not None)
    try:
        workers = choose_workers(jobs, cluster, threads=1)  # refuses an address before the long work
        bundles = export_all(field.contenders, work / "bundles", KEEP_RATIOS, console.print)
        if "phases" in wanted:
            _phases(field.contenders, bundles, field.measured("phases"), console)
        if "latency" in wanted:
            entries = measure_latencies(bundles, rounds=rounds, threads=2)
            write_results(field.measured("latency"), {**provenance(), "threads": 2, "entries": entries})
        if "loop" in wanted:
            campaign = Campaign(
                paths=bundles,
                seeds=held_out_seeds(seed0, episodes),
                execute=4,
                threads=1,
                live=live,
                workers=workers,
                block=block,
                blocks=work / "blocks" / field.loop.stem,
                out=field.loop,
            )
            run_campaign(campaign, _plan(bundles, profiles.split(","), opening), console)
    except SaccadeError as error:
        raise click.ClickException(f"{error.message} [{error.code}]") from error
    if "report" in wanted:
        _report(field, bundles, console)


def _field(results: Path, only: Sequence[str], *, is_ablation: bool, is_live: bool) -> _Field:
    """Return who is compared.

    Raises:
        click.BadParameter: A label is no contender's.
    """
    everybody = ABLATIONS if is_ablation else CONTENDERS
    labels = [contender.label for contender in everybody]
    if unknown := [label for label in only if label not in labels]:
        raise click.BadParameter(f"expected --only out of {'; '.join(labels)}, found {'; '.join(unknown)}.")
    contenders = [contender for contender in everybody if not only or contender.label in only]
    name, references = ("ablations", (BASIS,)) if is_ablation else ("selection", REFERENCES)
    return _Field(results, name, contenders, references, is_live)


def _plan(bundles: dict[str, Path], profiles: Sequence[str], opening: int) -> list[Cell]:
    """Return the cells: each budget with nobody's full steps added, then the small ones with everybody's."""
    names = list(bundles)
    tasks = table_of(read_manifest(bundles[names[0]])).templates
    cells = plan_cells(names, tasks, profiles)
    if opening:
        cells += plan_cells(names, tasks, [name for name in profiles if name in OPENED], opening=opening)
    return cells


def _phases(contenders: Sequence[Contender], bundles: dict[str, Path], out: Path, console: Console) -> None:
    """Replay the unpruned model's frames through every bundle."""
    first = bundles[contenders[0].label]
    console.print(f"recording {len(PHASE_SEEDS)} episodes of each task with every token")
    episodes = record(first, PHASE_SEEDS, threads=2)
    scenes = [scene for episode in episodes for scene in episode.scenes]
    results: dict[str, Any] = {
        "seeds": [PHASE_SEEDS.start, PHASE_SEEDS.stop],
        "tokens": {
            "all": len(scenes[0].told),
            "told": round(float(np.mean([scene.told.sum() for scene in scenes])), 2),
            "things": round(float(np.mean([scene.things.sum() for scene in scenes])), 2),
        },
        "errors": {},
    }
    for contender in contenders:
        console.print(f"replaying through {contender.label}")
        results["errors"][contender.label] = replay(bundles[contender.label], episodes, threads=2)
    write_results(out, {**provenance(), **results})


def _report(field: _Field, bundles: dict[str, Path], console: Console) -> None:
    """Write table and chart, and show the table."""
    if "identity" not in read_results(field.loop):
        raise click.ClickException(
            f"expected the results of a sweep in {field.loop}, found none, or older ones: run the loop first."
        )
    loop, phases, latency = map(
        read_results, (field.loop, field.measured("phases"), field.measured("latency"))
    )
    found = rows(field.contenders, bundles, loop, phases, latency, field.references)
    table = f"{summary(found)}\n{markdown(found)}"
    if field.name == "ablations":
        apart = rows(field.contenders, bundles, loop, phases, latency, field.references, templates=(MOVING,))
        table += f"\n## {MOVING} alone\n\n{summary(apart)}\n{markdown(apart)}" if apart else ""
    field.loop.with_suffix(".md").write_text(table, encoding="utf-8")
    console.print(table, markup=False)
    if latency and field.name == "selection" and not field.is_live and field.results == RESULTS:
        machine = latency["machine"]
        caption = f"{machine['cpu']}, {machine['cores']} cores, {latency['measured'][:10]}"
        (HERE / "charts" / "selection.svg").write_text(pareto_chart(found, caption), encoding="utf-8")
        sheet = contact_sheet(bundles, profile="keep25")
        sheet.save(HERE / "charts" / "selection_sheet.webp", quality=80)


if __name__ == "__main__":
    main()
