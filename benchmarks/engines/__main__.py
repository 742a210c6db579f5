"""PyTorch eager, torch.compile and every engine that the machine has, side by side in one run.

    python -m benchmarks.engines --quick
    python -m benchmarks.engines --device cuda --engine tensorrt --engine ort-cpu

Every way runs every profile of a model, in turn, forwards and backwards, so that a slow minute slows all of them; what
is compared is compared round by round. Beside each time stand its MACs, the bytes that it reads, the least time that
this machine could take, by a product and a read of memory that are measured before and after, and what MACs predict of
it from the full step of the same way. Models of published shapes have random weights and are as large as the machine
holds.
Needs the export side: run it where torch is installed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.engines.models import SIZES, Subject, choose, free_memory_bytes, named, prepare
from benchmarks.engines.peaks import best, torch_peak
from benchmarks.engines.rounds import Key, take_turns, to_cells, verdicts
from benchmarks.engines.ways import (
    COMPILE,
    EAGER,
    Way,
    agreement,
    engine_ways,
    frames_of,
    load_engine,
    torch_ways,
)
from benchmarks.results_file import RESULTS, write_results
from saccade.export.bundle.progress import shown
from saccade.export.families.registry import load_checkpoint
from saccade.proto.devices import FP32, GIGA, Device
from saccade.proto.errors import SaccadeError
from saccade.proto.strict_json import to_json
from saccade.runtime.bench.machine import BUSY_CORES, OtherWork
from saccade.runtime.bench.report import read_accounts, shape_line
from saccade.runtime.bench.roofline import measure_roofline
from saccade.runtime.bundle import Bundle
from saccade.runtime.cores import usable_cores
from saccade.runtime.engines.registry import ENGINES, open_backend, runs_on_gpu, why_not
from saccade.runtime.provenance import provenance
from saccade.runtime.selftest.hardware import hardware, state

_FRAMES = 4


@dataclass(frozen=True)
class Pace:
    """How often to run what.

    Args:
        rounds: How often every way of every profile takes its turn.
        block: Steps of a turn that are counted.
        settle: Steps of a turn before them.
    """

    rounds: int
    block: int
    settle: int


@dataclass(frozen=True)
class Setup:
    """What is the same for every model.

    Args:
        engines: Engines beside PyTorch.
        torch_names: PyTorch's ways.
        device: Where PyTorch runs, ``cpu`` or ``cuda``.
        threads: Threads of each way on the CPU.
        pace: How often to run what.
        console: Gets progress and tables.
    """

    engines: tuple[str, ...]
    torch_names: tuple[str, ...]
    device: str
    threads: int
    pace: Pace
    console: Console


@click.command()
@click.option("--model", "models", multiple=True, type=click.Choice(list(SIZES)), help="Default: all.")
@click.option(
    "--engine", "engines", multiple=True, type=click.Choice(ENGINES), help="Default: all that are there."
)
@click.option("--compile/--no-compile", "is_compiled", default=True, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where PyTorch runs.")
@click.option(
    "--size", "sizes", multiple=True, metavar="MODEL=SIZE", help="Instead of the largest that fits."
)
@click.option(
    "--most-step-s", default=20.0, show_default=True, help="Longest full step, by the peak, seconds."
)
@click.option("--policy", default="vla_pruner", show_default=True, help="Of the models of published shapes.")
@click.option("--threads", default=0, show_default=True, help="Of each way; 0 = one for each core.")
@click.option("--rounds", default=8, show_default=True)
@click.option("--block", default=12, show_default=True, help="Counted steps of a turn.")
@click.option("--settle", default=3, show_default=True, help="Steps of a turn that are not counted.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep checkpoints and bundles here.")
@click.option(
    "--quick", is_flag=True, help="Smallest sizes and few steps: does it run? Its times are worth little."
)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS / "engines.json", show_default=True)
def main(  # noqa: PLR0913, PLR0917 - one for each option
    models: tuple[str, ...],
    engines: tuple[str, ...],
    is_compiled: bool,
    device: str,
    sizes: tuple[str, ...],
    most_step_s: float,
    policy: str,
    threads: int,
    rounds: int,
    block: int,
    settle: int,
    folder: Path | None,
    quick: bool,
    out: Path,
) -> None:
    """Time every way to run every model, and write OUT."""
    threads = threads or usable_cores()
    torch.set_num_threads(threads)
    there = engines or tuple(name for name in ENGINES if why_not(name) is None)
    absent = {name: reason for name in ENGINES if name not in there and (reason := why_not(name))}
    setup = Setup(
        engines=there,
        torch_names=(EAGER, COMPILE) if is_compiled else (EAGER,),
        device=device,
        threads=threads,
        pace=Pace(2, 2, 1) if quick else Pace(rounds, block, settle),
        console=Console(),
    )
    asked = dict(text.split("=", 1) for text in sizes)
    peak = torch_peak(device)
    found: dict[str, Any] = {
        **provenance(),
        "hardware": hardware(),
        "settings": {**asdict(setup.pace), "threads": threads, "device": device, "is_quick": quick},
        "absent": absent,
        "verdicts": [],
        "models": [],
    }
    try:
        with tempfile.TemporaryDirectory() as temporary:
            for name in models or SIZES:
                known = SIZES[name]
                size = None
                if known is not None:
                    size = (
                        named(known, asked[name])
                        if name in asked
                        else known[-1]
                        if quick
                        else choose(
                            known,
                            memory_bytes=free_memory_bytes(),
                            copies=1 + 4 * len(setup.engines),
                            flops=peak.peaks[FP32],
                            most_step_s=most_step_s,
                        )
                    )
                with shown() as progress:
                    subject = prepare(name, folder or Path(temporary), size, policy, progress)
                entry = measure(subject, setup)
                found["models"].append(entry)
                found["verdicts"] += verdicts(name, entry["cells"])
                write_results(out, found)  # what is done stays if the next model ends the program
    except SaccadeError as error:
        raise click.ClickException(f"{error.message} [{error.code}]") from error


def measure(subject: Subject, setup: Setup) -> dict[str, Any]:
    """Return the entry of one model, as plain JSON values.

    Args:
        subject: The model.
        setup: What is run, and how often.

    Raises:
        SaccadeError: It cannot be loaded or run.
    """
    opened = Bundle.open(subject.bundle)
    accounts, before = read_accounts(opened), state()
    checkpoint = load_checkpoint(subject.checkpoint)
    frames, shape = frames_of(checkpoint, _FRAMES), shape_line(opened.manifest)
    with ExitStack() as stack:
        ways, notes = torch_ways(checkpoint, opened.manifest, setup.torch_names, setup.device)
        backends = {
            name: stack.enter_context(open_backend(name, threads=setup.threads, builds_plans=True))
            for name in setup.engines
        }
        for name, backend in backends.items():
            for profile, way in engine_ways(load_engine(opened, backend)).items():
                ways[profile][name] = way
        agreements = {profile: agreement(found, frames, EAGER) for profile, found in ways.items()}

        def peaks() -> list[Device]:
            return [
                torch_peak(setup.device),
                *(
                    measure_roofline(backend, setup.threads, on_gpu=runs_on_gpu(name))
                    for name, backend in backends.items()
                ),
            ]

        with OtherWork() as other:
            measured = peaks()
            turns = take_turns_shown(subject.name, ways, frames, setup)
            measured += peaks()
    device = best(measured)
    cells = to_cells(turns, accounts, device, base=EAGER, shape=shape)
    for cell in cells:
        cell["agreement"] = agreements[cell["profile"]][cell["way"]]
    entry = {
        "model": subject.name,
        "size": subject.size,
        "has_random_weights": subject.has_random_weights,
        "shape": shape,
        "policy": {"name": opened.manifest.policy.name, **opened.manifest.policy.config},
        "parameters": sum(weight.numel() for weight in checkpoint.module.parameters()),
        "roofline": to_json(asdict(device)),
        "peaks": [to_json(asdict(each)) for each in measured],
        "state": {"before": before, "after": state()},
        "other_cores": other.cores,
        "is_busy": other.cores is None or other.cores > BUSY_CORES,
        "notes": notes,
        "cells": cells,
    }
    show(entry, setup.console)
    return entry


def take_turns_shown(name: str, ways: dict[str, dict[str, Way]], frames: Sequence[Any], setup: Setup) -> Any:
    """Time all ways of all profiles in turn, with a display of how far it is."""

    def run(way: Way, index: int) -> None:
        way.step(frames[index % len(frames)])

    steps = {
        (profile, key): partial(run, way) for profile, found in ways.items() for key, way in found.items()
    }
    with Progress(console=setup.console, transient=True) as progress:
        bar = progress.add_task(name, total=setup.pace.rounds * len(steps))

        def tell(done: int, key: Key) -> None:
            progress.update(bar, completed=done, description=f"{name}: {' '.join(key)}")

        return take_turns(steps, **asdict(setup.pace), tell=tell)


def show(entry: dict[str, Any], console: Console) -> None:
    """Print a model's figures."""
    random = ", random weights" if entry["has_random_weights"] else ""
    peak = entry["roofline"]
    console.print(f"{entry['shape']}; {entry['parameters'] / 1e6:.1f} M weights{random}")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    for heading in ("profile", "way", "p50 ms", "p99", "x eager", "roofline", "GMAC", "by MACs", "differs"):
        table.add_column(heading, no_wrap=True, justify="left" if heading in {"profile", "way"} else "right")
    for cell in entry["cells"]:
        difference = cell["agreement"]["max_difference"]
        table.add_row(
            cell["profile"],
            cell["way"],
            f"{cell['p50_us'] / 1e3:.2f}",
            f"{cell['p99_us'] / 1e3:.2f}",
            f"{cell['times_faster_than_eager']['median']:.2f}",
            f"{cell['share_of_roofline']:.0%}",
            f"{cell['macs'] / GIGA:.2f}",
            f"{cell['measured_over_predicted']['median']:.2f}",
            "-" if difference is None else f"{difference:.0e}",
        )
    console.print(table)
    console.print(
        f"{peak['peaks'][FP32] / GIGA:.0f} GFLOP/s float32 and {peak['bandwidth'] / GIGA:.1f} GB/s, both measured in "
        "this run; by MACs: measured over predicted"
    )
    for what, note in entry["notes"].items():
        if "failed" in note:
            console.print(f"{what}: {note['failed']}", markup=False)
    if entry["is_busy"]:
        console.print(f"BUSY MACHINE: other programs took {entry['other_cores']} cores; measure again.")


if __name__ == "__main__":
    main()
