"""Does a deadline hold while other work comes and goes? Fixed profiles and the chosen one, in turns.

    python -m benchmarks.deadline [--bundle BUNDLE]

Each contender has a daemon of its own, of which one at a time is driven over gRPC at a fixed rate, in blocks that
alternate; in every other block processes that do nothing but compute want the cores too. The deadline is told as a
multiple of what the full profile takes on the idle machine, measured first.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.frames import recorded_observations
from benchmarks.results_file import RESULTS, latency_summary, write_results
from saccade.proto.profile_names import FULL_PROFILE
from saccade.runtime.bundle import Bundle
from saccade.runtime.client import Client
from saccade.runtime.clock import monotonic_ns
from saccade.runtime.observation import ActionChunk, Observation, Robot
from saccade.runtime.provenance import provenance
from saccade.sim.cli import bundled_mini
from saccade.sim.daemon_process import DaemonProcess
from saccade.sim.scoring import quantile_ns

CHOSEN = "chosen by the deadline"
_IDLE, _BUSY = "idle", "busy"
_FRAMES = 32
_WARM_UP = 10


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), help="Default: the bundled model.")
@click.option("--blocks", default=4, show_default=True, help="Of each contender, idle and busy.")
@click.option("--steps", default=150, show_default=True, help="Control steps of a block.")
@click.option("--rate-hz", default=10.0, show_default=True, help="Of the control steps.")
@click.option("--times", default=1.5, show_default=True, help="The deadline, in idle full steps.")
@click.option("--burners", default=1, show_default=True, help="Processes that want the cores too.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS / "deadline.json")
def main(
    bundle: Path | None, blocks: int, steps: int, rate_hz: float, times: float, burners: int, out: Path
) -> None:
    """Count missed deadlines of every fixed profile, and of the one that is chosen."""
    place = bundle or bundled_mini()
    manifest = Bundle.open(place, with_graphs=False).manifest
    told, frames = recorded_observations(_FRAMES, image_px=manifest.views[0].height)
    smaller = tuple(each.name for each in manifest.profiles if each.name != FULL_PROFILE)
    with DaemonProcess(place) as daemon, Client(daemon.address) as client, client.open() as robot:
        idle = drive(robot, told, frames, FULL_PROFILE, steps, rate_hz)
    idle_ns = quantile_ns([took for took, _ in idle], 0.5)
    deadline_ms = times * idle_ns / 1e6
    cells: dict[tuple[str, str], list[tuple[int, str]]] = {}
    with ExitStack() as stack:
        robots: dict[str, tuple[Robot, str]] = {}
        for name in (FULL_PROFILE, *smaller, CHOSEN):
            is_chosen = name == CHOSEN
            daemon = stack.enter_context(
                DaemonProcess(
                    place,
                    deadline_ms=deadline_ms if is_chosen else 0.0,
                    deadline_profiles=smaller if is_chosen else (),
                )
            )
            client = stack.enter_context(Client(daemon.address))
            robots[name] = stack.enter_context(client.open()), FULL_PROFILE if is_chosen else name
        turns = [(state, name) for _ in range(blocks) for state in (_IDLE, _BUSY) for name in robots]
        for state, name in track(turns, "blocks", console=Console(stderr=True)):
            robot, profile = robots[name]
            with burning(burners if state == _BUSY else 0):
                found = drive(robot, told, frames, profile, steps, rate_hz)
            cells.setdefault((name, state), []).extend(found)
    results = {
        **provenance(),
        "bundle": {"name": manifest.name, "created": manifest.created, "policy": manifest.policy.name},
        "rate_hz": rate_hz,
        "burners": burners,
        "idle_full_ms": idle_ns / 1e6,
        "deadline_ms": deadline_ms,
        "cells": [cell(name, state, found, deadline_ms) for (name, state), found in cells.items()],
    }
    write_results(out, results)
    Console().print(to_table(results))


def drive(
    robot: Robot, told: str, frames: list[Observation], profile: str, steps: int, rate_hz: float
) -> list[tuple[int, str]]:
    """Return how long after its capture each chunk arrived, nanoseconds, and what ran.

    Args:
        robot: What acts; it is reset first, and the first few steps are not counted.
        told: The instruction.
        frames: Observations, taken in turn.
        profile: Name of the largest profile that may run.
        steps: How many control steps are counted.
        rate_hz: How many begin in a second.
    """
    robot.reset(told)
    found: list[tuple[int, str]] = []
    next_ns = monotonic_ns()
    for index in range(_WARM_UP + steps):
        next_ns += round(1e9 / rate_hz)
        time.sleep(max(0.0, (next_ns - monotonic_ns()) / 1e9))
        captured_ns = monotonic_ns()
        frame = dataclasses.replace(frames[index % len(frames)], captured_ns=captured_ns, sequence=index + 1)
        chunk: ActionChunk = robot.act(frame, profile)
        if index >= _WARM_UP:
            found.append((monotonic_ns() - captured_ns, chunk.profile))
    return found


@contextmanager
def burning(processes: int) -> Iterator[None]:
    """Have processes compute for nothing while the body runs.

    Args:
        processes: How many.
    """
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=_burn, daemon=True) for _ in range(processes)]
    try:
        for process in running:
            process.start()
        yield
    finally:
        for process in running:
            process.kill()
            process.join()


def cell(name: str, state: str, found: list[tuple[int, str]], deadline_ms: float) -> dict[str, Any]:
    """Return what one contender did in one state of the machine, as plain JSON values.

    Args:
        name: The contender.
        state: Whether other work wanted the cores.
        found: How long each chunk took, nanoseconds, and what ran.
        deadline_ms: When it had to be there, milliseconds.
    """
    durations = [took for took, _ in found]
    return {
        "contender": name,
        "state": state,
        "steps": len(found),
        "missed": sum(took > deadline_ms * 1e6 for took in durations),
        "ran": dict(Counter(profile for _, profile in found)),
        **latency_summary(durations),
    }


def to_table(results: dict[str, Any]) -> Table:
    """Return the results as a table."""
    table = Table(title=f"deadline {results['deadline_ms']:.1f} ms at {results['rate_hz']:g} Hz")
    for column in ("contender", "machine", "missed", "p50", "p99", "what ran"):
        table.add_column(column, justify="left" if column in {"contender", "what ran"} else "right")
    for each in results["cells"]:
        ran = ", ".join(f"{profile} {count / each['steps']:.0%}" for profile, count in each["ran"].items())
        table.add_row(
            each["contender"],
            each["state"],
            f"{each['missed'] / each['steps']:.1%}",
            f"{each['p50_us'] / 1e3:.1f} ms",
            f"{each['p99_us'] / 1e3:.1f} ms",
            ran,
        )
    return table


def _burn() -> None:
    while True:
        sum(range(1_000_000))


if __name__ == "__main__":
    main()
