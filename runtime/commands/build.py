"""``saccade build``: compile a bundle's graphs for a GPU, once, so that the daemon only loads them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from saccade.proto.errors import EngineError, InputError
from saccade.proto.manifest import Manifest
from saccade.runtime.bundle import Bundle
from saccade.runtime.commands.engine_options import lowering_option, plans_option
from saccade.runtime.engines.cuda_driver import Gpu, find_gpu
from saccade.runtime.engines.plan_cache import PlanCache
from saccade.runtime.engines.registry import PLAN_ENGINES, plan_backend

_MEGA = 1e6


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--engine",
    type=click.Choice(PLAN_ENGINES),
    default="tensorrt",
    show_default=True,
    help="What will run the plans.",
)
@click.option(
    "--profile", "profiles", multiple=True, help="Profile to build for; may be repeated. Default: all."
)
@lowering_option
@plans_option
@click.option("--rebuild", is_flag=True, help="Build also what is there.")
@click.option(
    "--compute-capability",
    metavar="SM89",
    help="Build for a GPU that is not here; tensorrt-rtx alone can.  [default: this machine's]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the plans as JSON.")
def build(
    bundle: Path,
    engine: str,
    profiles: tuple[str, ...],
    lowering: str,
    plans: Path | None,
    rebuild: bool,
    compute_capability: str | None,
    as_json: bool,
) -> None:
    """Compile BUNDLE's graphs for the GPU of this machine, and keep the plans.

    A plan is used only with the graph, weights, library, GPU and driver that it was built with; `saccade serve` refuses
    any other and says in what it differs. A plan that is there is kept, so an interrupted build goes on where it was.

    \b
    Example:
        saccade build ./saccade-mini
        saccade build ./saccade-mini --engine tensorrt-rtx --compute-capability SM89 --plans ./plans
    """
    backend = plan_backend(engine)
    if compute_capability is not None and backend.is_bound_to_gpu:
        raise InputError(
            f"expected --compute-capability with an engine that builds for other GPUs, found {engine}, whose plans run "
            "only where they are built: leave it out, and run this on the robot."
        )
    gpu = None if compute_capability is not None else _gpu_of_this_machine()
    cache, library = PlanCache(plans), _library(backend.module)
    target = compute_capability if gpu is None else gpu.target
    made_for = backend.plans_for(library, cache, target or "", gpu)
    opened = Bundle.open(bundle)
    rows = []
    with cache.building(), _progress() as progress:
        task = progress.add_task("build", total=None)
        for graph in _graphs(opened.manifest, lowering, profiles):
            progress.update(task, description=f"{graph}: build for {target}")
            began_ns = time.monotonic_ns()
            key = made_for.key(graph, opened.files)
            is_built = rebuild or not cache.has(key)
            if is_built:
                made_for.build(graph, opened.files)
            rows.append(
                {
                    "graph": graph,
                    "plan": key.file_name,
                    "bytes": int(cache.read(key).size),
                    "is_built": is_built,
                    "seconds": round((time.monotonic_ns() - began_ns) / 1e9, 1),
                }
            )
    if as_json:
        click.echo(json.dumps({"plans": str(cache.folder), "target": target, "graphs": rows}))
    else:
        for line in _lines(rows):
            click.echo(line)
        click.echo(f"plans for {engine} on {target} in {cache.folder}")


def _graphs(manifest: Manifest, lowering: str, profiles: tuple[str, ...]) -> list[str]:
    """Return the files that the asked profiles run, each once."""
    lowered = manifest.lowered(lowering)
    asked = [manifest.profile(name) for name in profiles] or manifest.profiles
    stages = [stage for profile in asked for stage in (*profile.stages, *profile.token_stages)]
    return list(dict.fromkeys(lowered[stage.graph] for stage in stages))


def _gpu_of_this_machine() -> Gpu:
    try:
        return find_gpu()
    except EngineError as error:
        raise EngineError(
            f"expected a GPU to build plans for, found that {error.message}; tensorrt-rtx builds without one for a "
            "--compute-capability."
        ) from error


def _library(module: str) -> ModuleType:
    try:
        return import_module(module)
    except (ImportError, OSError) as error:
        raise EngineError(f"expected {module} to load, found: {error}: install it again.") from error


def _progress() -> Progress:
    columns = (SpinnerColumn("line"), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        verdict = f"built in {row['seconds']:.1f} s" if row["is_built"] else "there already"
        yield f"{row['graph']}: {verdict}, {row['bytes'] / _MEGA:.1f} MB"
