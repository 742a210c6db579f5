"""Success in the closed loop: every policy at every profile, and the wrong-instruction control.

    python -m benchmarks.closed_loop --bundle vla_pruner=bundles/vla_pruner --bundle random_keep=bundles/random_keep

Cut off, it goes on from the records in ``--blocks``. ``full`` keeps every token whatever the policy, so it is run with
the first bundle only, and so is the control. Several blocks run side by side, each behind a daemon of its own, here or
on a Ray cluster: successes do not depend on it, latencies do. In live time success follows latency, so that only a
fixed one allows several jobs.
"""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from benchmarks.cells import Campaign, live_time, plan_cells, run_campaign, worker_options
from benchmarks.results_file import RESULTS
from saccade.proto.errors import SaccadeError
from saccade.proto.manifest import read_manifest
from saccade.sim.connection import table_of
from saccade.sim.seeds import held_out_seeds
from saccade.sim.sweeps.choice import choose_workers


@click.command()
@click.option("--bundle", "bundles", multiple=True, required=True, help="NAME=DIRECTORY, may be repeated.")
@click.option("--profiles", default="full,keep50,keep25,keep12.5", show_default=True)
@click.option("--tasks", help="Default: all that the bundle's table has.")
@click.option(
    "--control", default="full,keep25", show_default=True, help="Profiles of the control; empty = none."
)
@click.option("--episodes", default=100, show_default=True, help="For each cell.")
@click.option("--seed0", default=0, show_default=True)
@click.option("--execute", default=4, show_default=True, help="Actions executed from each chunk.")
@click.option("--threads", default=1, show_default=True, help="Threads of the engine; 0 = one for each core.")
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
@worker_options
@click.option(
    "--blocks", type=click.Path(path_type=Path), default=Path("runs/closed_loop"), show_default=True
)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS / "closed_loop.json")
def main(  # noqa: PLR0913, PLR0917 - one for each option
    bundles: tuple[str, ...],
    profiles: str,
    tasks: str | None,
    control: str,
    episodes: int,
    seed0: int,
    execute: int,
    threads: int,
    time_kind: str,
    latency_ms: float | None,
    jobs: int,
    cluster: str | None,
    block: int,
    blocks: Path,
    out: Path,
) -> None:
    """Run every cell, and write OUT."""
    live = live_time(time_kind, latency_ms, jobs=jobs, cluster=cluster)
    paths = dict(_named(bundle) for bundle in bundles)
    table = table_of(read_manifest(next(iter(paths.values()))))
    wanted = list(table.templates) if tasks is None else _words(tasks)
    try:
        campaign = Campaign(
            paths=paths,
            seeds=held_out_seeds(seed0, episodes),
            execute=execute,
            threads=threads,
            live=live,
            workers=choose_workers(jobs, cluster, threads=threads),
            block=block,
            blocks=blocks,
            out=out,
        )
        run_campaign(campaign, plan_cells(list(paths), wanted, _words(profiles), _words(control)), Console())
    except SaccadeError as error:
        raise click.ClickException(f"{error.message} [{error.code}]") from error


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _named(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals:
        raise click.BadParameter(f"expected NAME=DIRECTORY, found {text!r}")
    return name, Path(path)


if __name__ == "__main__":
    main()
