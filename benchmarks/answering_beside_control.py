"""What an answerer costs the robot: the same control steps with and without a question being answered in the daemon.

    python -m benchmarks.answering_beside_control ROBOT ANSWERER

One daemon, control steps at a fixed rate over gRPC, in blocks that alternate: nobody asks, a process of its own asks
without a pause. So a slow moment of the machine falls on both.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
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
from saccade.runtime.observation import Observation, Robot
from saccade.runtime.provenance import provenance
from saccade.sim.daemon_process import DaemonProcess

ALONE, ANSWERING = "alone", "answering"
_WARM_UP = 5
_FRAMES = 16
_TOKENS = "answer.tokens"
_ASKER = """
import sys
import numpy as np
from saccade.runtime.answering.question import Question
from saccade.runtime.client import Client
with Client(sys.argv[1]) as client:
    answerer = client.answerer()
    images = {view.name: np.zeros((view.height, view.width, 3), np.uint8) for view in answerer.manifest.views}
    question = Question(sys.argv[2], images)
    while True:
        for piece in answerer.answer(question):
            pass
"""


@click.command()
@click.argument("robot", type=click.Path(path_type=Path))
@click.argument("answerer", type=click.Path(path_type=Path))
@click.option("--question", default="what is on the table", show_default=True, help="Asked again and again.")
@click.option("--blocks", default=5, show_default=True, help="Of each kind.")
@click.option("--steps", default=200, show_default=True, help="Control steps of a block.")
@click.option("--rate-hz", default=20.0, show_default=True, help="Of the control steps.")
@click.option("--threads", default=0, show_default=True, help="Of the robot's engine; 0 = one for each core.")
@click.option("--answerer-threads", default=1, show_default=True, help="Of the answerer's engine.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS / "answering_beside_control.json")
def main(  # noqa: PLR0913, PLR0917 - one parameter per option
    robot: Path,
    answerer: Path,
    question: str,
    blocks: int,
    steps: int,
    rate_hz: float,
    threads: int,
    answerer_threads: int,
    out: Path,
) -> None:
    """Measure control steps of ROBOT while ANSWERER answers in the same daemon."""
    told, frames = recorded_observations(_FRAMES, image_px=Bundle.open(robot).manifest.views[0].height)
    took_ns: dict[str, list[int]] = {ALONE: [], ANSWERING: []}
    tokens, asked_s = 0, 0.0
    with ExitStack() as stack:
        daemon = stack.enter_context(
            DaemonProcess(robot, threads=threads, answerer=answerer, answerer_threads=answerer_threads)
        )
        client = stack.enter_context(Client(daemon.address, name="answering beside control"))
        session = stack.enter_context(client.open())
        for _ in track(range(blocks), "blocks"):
            session.reset(told)
            took_ns[ALONE] += _steps(session, frames, 0, steps, rate_hz)
            with _asking(client, daemon.address, question):
                before, started = _tokens(client), time.monotonic()
                took_ns[ANSWERING] += _steps(session, frames, steps, steps, rate_hz)
                tokens += _tokens(client) - before
                asked_s += time.monotonic() - started
    settings = {
        "blocks": blocks,
        "steps": steps,
        "rate_hz": rate_hz,
        "threads": threads,
        "answerer_threads": answerer_threads,
    }
    cells = [{"when": when, "latency": latency_summary(values)} for when, values in took_ns.items()]
    results = {"settings": settings, "tokens_per_s": round(tokens / asked_s, 1), "cells": cells}
    write_results(out, {**provenance(), **results})
    _show(cells, tokens / asked_s)


def _steps(robot: Robot, frames: list[Observation], done: int, steps: int, rate_hz: float) -> list[int]:
    """Run control steps at a fixed rate and return how long each took for the client, the first few left out."""
    took_ns = []
    due_s = time.monotonic()
    for number in range(done, done + steps):
        observation = dataclasses.replace(
            frames[number % len(frames)], captured_ns=monotonic_ns(), sequence=number + 1
        )
        started = time.monotonic_ns()
        robot.act(observation, FULL_PROFILE)
        took_ns.append(time.monotonic_ns() - started)
        due_s += 1 / rate_hz
        time.sleep(max(0.0, due_s - time.monotonic()))
    return took_ns[_WARM_UP:]


@contextmanager
def _asking(client: Client, address: str, question: str) -> Iterator[None]:
    """Ask without a pause, from the first token on."""
    before = _tokens(client)
    command = [sys.executable, "-c", _ASKER, address, question]
    with subprocess.Popen(command) as process:  # noqa: S603 - our own interpreter and our own code
        try:
            while _tokens(client) == before:
                if process.poll() is not None:
                    raise click.ClickException(
                        f"the asking process ended with exit code {process.returncode}."
                    )
                time.sleep(0.1)
            yield
        finally:
            process.kill()


def _tokens(client: Client) -> int:
    return client.describe().counters.get(_TOKENS, 0)


def _show(cells: list[dict[str, Any]], tokens_per_s: float) -> None:
    table = Table("control steps", "p50 ms", "p99 ms")
    for cell in cells:
        numbers = (cell["latency"][quantile] / 1e3 for quantile in ("p50_us", "p99_us"))
        table.add_row(cell["when"], *(f"{number:.2f}" for number in numbers))
    Console().print(table)
    Console().print(f"{tokens_per_s:.1f} tokens/s meanwhile")


if __name__ == "__main__":
    main()
