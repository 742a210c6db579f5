"""What the daemon costs: the same control step through gRPC, through ZeroMQ, and in process.

    python -m benchmarks.daemon_overhead BUNDLE

Every iteration runs the same observation once each way, in random order. The overhead is the difference of the two
latencies of one iteration, so a slow moment falls on both. Besides BUNDLE it measures a bundle that does next to
nothing with two views of 224 pixels, in which the wire is nearly all there is.
"""

from __future__ import annotations

import dataclasses
import random
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.frames import recorded_observations
from benchmarks.results_file import RESULTS, latency_summary, write_results
from saccade.proto.profile_names import FULL_PROFILE
from saccade.runtime.bundle import Bundle
from saccade.runtime.client import Client
from saccade.runtime.clock import monotonic_ns
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.observation import Observation, Robot
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.provenance import provenance
from saccade.runtime.session import Session
from saccade.sim.daemon_process import DaemonProcess
from tests.tiny_bundle import tiny_observation, write_tiny_bundle

IN_PROCESS, GRPC, ZMQ = "in-process", "grpc", "zmq"
_WARM_UP = 30
_NO_OP_PX = 224


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--steps", default=1000, show_default=True, help="Iterations for each bundle.")
@click.option("--rate-hz", default=0.0, show_default=True, help="Pace of the iterations; 0 = back to back.")
@click.option(
    "--threads", default=0, show_default=True, help="Threads of each engine; 0 = one for each core."
)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS / "daemon_overhead.json")
def main(bundle: Path, steps: int, rate_hz: float, threads: int, out: Path) -> None:
    """Measure BUNDLE and a bundle that does nothing."""
    manifest = Bundle.open(bundle).manifest
    told, frames = recorded_observations(16, image_px=manifest.views[0].height)
    cells = _measure(manifest.name, bundle, told, frames, (steps, rate_hz, threads))
    with tempfile.TemporaryDirectory() as folder:
        no_op = write_tiny_bundle(Path(folder) / "no-op", side=_NO_OP_PX)
        frames = [tiny_observation(seed, side=_NO_OP_PX) for seed in range(16)]
        cells += _measure(
            f"no-op, 2 x {_NO_OP_PX} px", no_op, "push the red cube", frames, (steps, rate_hz, threads)
        )
    settings = {"steps": steps, "rate_hz": rate_hz, "threads": threads}
    write_results(out, {**provenance(), "settings": settings, "cells": cells})
    _show(cells)


def _measure(
    name: str, bundle: Path, told: str, frames: list[Observation], pace: tuple[int, float, int]
) -> list[dict[str, Any]]:
    steps, rate_hz, threads = pace
    rng = random.Random(0)  # noqa: S311 - an order, not a secret
    latencies_ns: dict[str, list[int]] = {IN_PROCESS: [], GRPC: [], ZMQ: []}
    with ExitStack() as stack:
        robots = _robots(stack, bundle, threads)
        for robot in robots.values():
            robot.reset(told)
        for index in track(range(_WARM_UP + steps), name):
            if rate_hz:
                time.sleep(1 / rate_hz)
            observation = frames[index % len(frames)]
            for way in rng.sample(list(robots), len(robots)):
                latency_ns = _act(robots[way], observation, sequence=index + 1)
                if index >= _WARM_UP:
                    latencies_ns[way].append(latency_ns)
    base = np.array(latencies_ns[IN_PROCESS])
    return [
        {
            "bundle": name,
            "way": way,
            "overhead": latency_summary((np.array(values) - base).tolist()),
            "latency": latency_summary(values),
        }
        for way, values in latencies_ns.items()
    ]


def _robots(stack: ExitStack, bundle: Path, threads: int) -> dict[str, Robot]:
    """One session in process, and a daemon of its own for each transport (a daemon serves one owner)."""
    backend = stack.enter_context(OrtBackend(threads=threads))
    program = ProgramExecutor(Bundle.open(bundle), backend)
    program.warm_up()
    robots: dict[str, Robot] = {IN_PROCESS: stack.enter_context(Session(program))}
    for way in (GRPC, ZMQ):
        daemon = stack.enter_context(DaemonProcess(bundle, threads=threads, is_zmq=way == ZMQ))
        address = daemon.address if daemon.zmq_address is None else daemon.zmq_address
        client = stack.enter_context(Client(address, transport=way, name="daemon overhead"))
        robots[way] = stack.enter_context(client.open())
    return robots


def _act(robot: Robot, observation: Observation, *, sequence: int) -> int:
    stamped = dataclasses.replace(observation, captured_ns=monotonic_ns(), sequence=sequence)
    started = time.monotonic_ns()
    robot.act(stamped, FULL_PROFILE)
    return time.monotonic_ns() - started


def _show(cells: list[dict[str, Any]]) -> None:
    table = Table("bundle", "way", "overhead p50 ms", "p99 ms", "latency p50 ms", "p99 ms")
    for cell in cells:
        numbers = [
            cell[kind][quantile] / 1e3
            for kind in ("overhead", "latency")
            for quantile in ("p50_us", "p99_us")
        ]
        table.add_row(cell["bundle"], cell["way"], *(f"{number:.2f}" for number in numbers))
    Console().print(table)


if __name__ == "__main__":
    main()
