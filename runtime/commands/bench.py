"""``saccade bench``: time a bundle's profiles on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from saccade.proto.devices import FP32, GIGA, Device
from saccade.proto.strict_json import to_json
from saccade.proto.writable import check_file
from saccade.runtime.bench.machine import BUSY_CORES, MachineState, OtherWork, machine_state
from saccade.runtime.bench.report import read_accounts, shape_line, spin_lines, to_cells, to_table
from saccade.runtime.bench.roofline import measure_roofline
from saccade.runtime.bench.stopwatch import Timing, time_steps
from saccade.runtime.bundle import Bundle
from saccade.runtime.commands.engine_options import engine_option, lowering_option, plans_option
from saccade.runtime.commands.real_time_options import real_time_options, spin_option
from saccade.runtime.cores import checked_threads, usable_cores
from saccade.runtime.engines.registry import open_backend, runs_on_gpu
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.provenance import provenance
from saccade.runtime.real_time import RealTime, ask_for
from saccade.runtime.session import Session, check_controls


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, file_okay=False))
@click.option("--profile", "profiles", multiple=True, help="Profile to time; may be repeated. Default: all.")
@click.option(
    "--hz",
    multiple=True,
    type=click.FloatRange(0, min_open=True),
    help="Time at this many control steps a second too, as a robot asks for them; may be repeated.",
)
@click.option(
    "--seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Least time of each profile and pace.",
)
@click.option(
    "--steps",
    default=1024,
    show_default=True,
    type=click.IntRange(1),
    help="Least number of counted steps of each profile and pace.",
)
@click.option(
    "--instruction", default="pick up the object", show_default=True, help="What the arm is told to do."
)
@engine_option
@lowering_option
@plans_option
@click.option(
    "--threads", default=0, show_default=True, help="Threads that run the model; 0 = one for each core."
)
@real_time_options
@spin_option
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write raw durations and the machine here."
)
def bench(
    bundle: Path,
    profiles: tuple[str, ...],
    hz: tuple[float, ...],
    seconds: float,
    steps: int,
    instruction: str,
    engine: str,
    lowering: str,
    plans: Path | None,
    threads: int,
    real_time: RealTime,
    spin_us: int,
    json_path: Path | None,
) -> None:
    """Time control steps of BUNDLE on this machine, in process.

    The profiles take turns in one run. Beside each stands the least time that this machine could take for it, from the
    work that the bundle counts and from the machine's own arithmetic and memory, measured in the same run. Pictures are
    random: what a step costs does not depend on what is seen, but how well the model acts does, and is not measured.
    With --spin-us each pace of --hz is timed asleep and awake, in turn.

    \b
    Example:
        saccade bench ./saccade-mini --seconds 10
        saccade bench ./saccade-mini --hz 20 --spin-us 200
        saccade bench ./saccade-mini --hz 10 --hz 20 --json bench.json
    """
    if spin_us and not hz:
        raise click.UsageError("expected --hz with --spin-us: back to back there is nothing to wait for.")
    if json_path is not None:
        check_file(json_path)
    ask_for(real_time)
    console = Console(stderr=True)
    threads = checked_threads(threads) or usable_cores()
    opened = Bundle.open(bundle)
    check_controls(opened.manifest)
    asked = profiles or [profile.name for profile in opened.manifest.profiles]
    names = [opened.manifest.profile(name).name for name in asked]
    accounts, before = read_accounts(opened), machine_state()
    with open_backend(engine, threads=threads, plans=plans, builds_plans=True) as backend:
        program = ProgramExecutor(opened, backend, lowering=lowering)
        program.warm_up()
        with OtherWork() as other, Session(program) as session, _Display(console, seconds) as display:
            session.reset(instruction)
            roofline = measure_roofline(backend, threads, on_gpu=runs_on_gpu(engine))
            timings = time_steps(
                session,
                opened.manifest,
                names,
                (None, *hz),
                seconds=seconds,
                steps=steps,
                spin_ns=spin_us * 1_000,
                on_block=display.show,
            )
    cells = to_cells(timings, accounts, roofline)
    after = machine_state()
    click.echo(shape_line(opened.manifest))
    Console().print(to_table(cells))
    for line in (*spin_lines(cells), *_remarks(roofline, before, after, other.cores)):
        click.echo(line)
    if json_path is not None:
        json_path.write_text(
            json.dumps(
                {
                    **provenance(),
                    "bundle": {"name": opened.manifest.name, "shape": shape_line(opened.manifest)},
                    "engine": program.engine_name,
                    "threads": threads,
                    "real_time": asdict(real_time),
                    "roofline": to_json(asdict(roofline)),
                    "state": {"before": to_json(before), "after": to_json(after)},
                    "other_cores": other.cores,
                    "is_busy": _is_busy(other.cores),
                    "cells": cells,
                }
            )
            + "\n"
        )


class _Display:
    """Progress of each profile and pace, on the terminal."""

    def __init__(self, console: Console, seconds: float) -> None:
        self._seconds = max(seconds, 1e-9)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._bars: dict[tuple[str, float | None, int], TaskID] = {}

    def show(self, timing: Timing) -> None:
        """Move the bar of what was just timed."""
        key = (timing.profile, timing.hz, timing.spin_ns)
        if key not in self._bars:
            pace = (
                "back to back"
                if timing.hz is None
                else f"{timing.hz:g} Hz" + ", awake" * bool(timing.spin_ns)
            )
            self._bars[key] = self._progress.add_task(f"{timing.profile}, {pace}", total=self._seconds)
        self._progress.update(self._bars[key], completed=min(timing.seconds, self._seconds))

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _is_busy(other_cores: float | None) -> bool:
    return other_cores is None or other_cores > BUSY_CORES


def _remarks(
    roofline: Device, before: MachineState, after: MachineState, other_cores: float | None
) -> list[str]:
    flops, bandwidth = roofline.peaks[FP32] / GIGA, roofline.bandwidth / GIGA
    lines = [f"{roofline.label}: {flops:.0f} GFLOP/s float32, {bandwidth:.1f} GB/s read, both measured"]
    clocks = [*before.clocks_mhz, *after.clocks_mhz]
    told = [f"{min(clocks):.0f} to {max(clocks):.0f} MHz"] if clocks else []
    told += [f"governor {before.governor}"] if before.governor else []
    told += [f"power mode {before.power_mode}"] if before.power_mode else []
    told += [f"{max(after.temperatures_c.values()):.0f} degrees Celsius"] if after.temperatures_c else []
    if told:
        lines.append(f"machine: {', '.join(told)}")
    if other_cores is None:
        lines.append("NOT KNOWN whether other programs ran: this system does not tell.")
    elif _is_busy(other_cores):
        lines.append(
            f"BUSY MACHINE: other programs took {other_cores:.2f} cores; measure again when they are done."
        )
    return lines
