"""Compare every token-selection policy on saccade-mini.

    python -m benchmarks.selection                 # everything; cut off, it goes on where it stopped
    python -m benchmarks.selection --stage report  # table and charts from what is there

Bundles go to ``--work``; results, table, chart and contact sheet to ``benchmarks/``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from benchmarks.closed_loop import Campaign, plan_cells, run_campaign
from benchmarks.results_file import RESULTS, read_results, write_results
from benchmarks.selection.bundles import export_all
from benchmarks.selection.contact_sheet import contact_sheet
from benchmarks.selection.contenders import ABLATIONS, CONTENDERS, KEEP_RATIOS, Contender
from benchmarks.selection.latency import measure_latencies
from benchmarks.selection.pareto import pareto_chart
from benchmarks.selection.phases import record, replay
from benchmarks.selection.table import markdown, rows, summary
from saccade.runtime.provenance import provenance
from saccade.sim.tabletop.tables import BUNDLED

HERE = Path(__file__).parents[1]
STAGES = ("bundles", "phases", "latency", "loop", "report")
PHASE_SEEDS = range(3000, 3005)
ABLATION_RATIOS = (1.0, 0.5, 0.25, 0.125)


@click.command()
@click.option("--stage", "stages", multiple=True, type=click.Choice(STAGES), help="Default: all of them.")
@click.option("--only", multiple=True, help="Label of a contender; default: all.")
@click.option("--ablations", is_flag=True, help="VLA-Pruner's ablations instead of the field.")
@click.option(
    "--profiles", default="keep12.5,keep25,keep50,keep75,full", show_default=True, help="Run in this order."
)
@click.option(
    "--episodes", default=50, show_default=True, help="For each task: four times as many for each cell."
)
@click.option("--seed0", default=2000, show_default=True)
@click.option("--jobs", default=2, show_default=True, help="Cells that run side by side, each on one thread.")
@click.option("--rounds", default=60, show_default=True, help="Of the latency measurement.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/selection"), show_default=True)
def main(  # noqa: PLR0913, PLR0917 - one for each option
    stages: tuple[str, ...],
    only: tuple[str, ...],
    ablations: bool,
    profiles: str,
    episodes: int,
    seed0: int,
    jobs: int,
    rounds: int,
    work: Path,
) -> None:
    """Run the stages that are asked for, in their order."""
    console, wanted = Console(), set(stages or STAGES)
    field = ABLATIONS if ablations else CONTENDERS
    contenders = [contender for contender in field if not only or contender.label in only]
    name = "ablations" if ablations else "selection"
    ratios = ABLATION_RATIOS if ablations else KEEP_RATIOS
    bundles = export_all(contenders, work / "bundles", ratios, console.print)
    if "phases" in wanted:
        _phases(contenders, bundles, RESULTS / f"{name}_phases.json", console)
    if "latency" in wanted:
        entries = measure_latencies(bundles, rounds=rounds, threads=2)
        write_results(RESULTS / f"{name}_latency.json", {**provenance(), "threads": 2, "entries": entries})
    if "loop" in wanted:
        campaign = Campaign(
            paths=bundles,
            seeds=(seed0, seed0 + episodes),
            execute=4,
            threads=1,
            jobs=jobs,
            out=RESULTS / f"{name}.json",
        )
        cells = plan_cells(list(bundles), list(BUNDLED.templates), profiles.split(","), [])
        run_campaign(campaign, cells, console)
    if "report" in wanted:
        _report(name, contenders, bundles, console)


def _phases(contenders: Sequence[Contender], bundles: dict[str, Path], out: Path, console: Console) -> None:
    """Replay the unpruned model's frames through every bundle that OUT does not have yet."""
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


def _report(name: str, contenders: Sequence[Contender], bundles: dict[str, Path], console: Console) -> None:
    """Write table and chart, and show the table."""
    loop, phases, latency = (
        read_results(RESULTS / f"{name}{suffix}.json") for suffix in ("", "_phases", "_latency")
    )
    found = rows(contenders, bundles, loop, phases, latency)
    if not found:
        raise click.ClickException(
            f"expected results in {RESULTS / name}.json, found none: run the loop first."
        )
    table = f"{summary(found)}\n{markdown(found)}" if name == "selection" else markdown(found)
    (RESULTS / f"{name}.md").write_text(table, encoding="utf-8")
    console.print(table, markup=False)
    if latency and name == "selection":
        machine = latency["machine"]
        caption = f"{machine['cpu']}, {machine['cores']} cores, {latency['measured'][:10]}"
        (HERE / "charts" / "selection.svg").write_text(pareto_chart(found, caption), encoding="utf-8")
        sheet = contact_sheet(bundles, profile="keep25")
        sheet.save(HERE / "charts" / "selection_sheet.webp", quality=80)


if __name__ == "__main__":
    main()
