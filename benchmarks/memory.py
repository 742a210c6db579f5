"""What the daemon's process holds, and whether it grows: resident memory over many control steps through the client.

    python -m benchmarks.memory BUNDLE

Profiles alternate and an episode begins anew every 50 steps, so that everything that could leak is used. BUNDLE is
served with ``--lean`` too. Then comes a bundle that does next to nothing, in which far more steps fit. Linux only: it
reads ``/proc``.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.frames import recorded_observations
from benchmarks.results_file import RESULTS, write_results
from saccade.runtime.bundle import Bundle
from saccade.runtime.client import Client
from saccade.runtime.clock import monotonic_ns
from saccade.runtime.observation import Observation
from saccade.runtime.provenance import provenance
from saccade.sim.daemon_process import DaemonProcess
from tests.tiny_bundle import tiny_observation, write_tiny_bundle

_EPISODE = 50
_SAMPLES = 20


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--steps", default=10_000, show_default=True, help="Control steps of BUNDLE.")
@click.option(
    "--no-op-steps", default=100_000, show_default=True, help="Control steps of the one that does nothing."
)
@click.option("--threads", default=0, show_default=True, help="Threads of the engine; 0 = one for each core.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS / "memory.json")
def main(bundle: Path, steps: int, no_op_steps: int, threads: int, out: Path) -> None:
    """Measure BUNDLE, prepacked and lean, and a bundle that does nothing."""
    manifest = Bundle.open(bundle).manifest
    told, frames = recorded_observations(16, image_px=manifest.views[0].height)
    rows = [
        _measure(manifest.name, bundle, told, frames, steps, threads),
        _measure(f"{manifest.name}, lean", bundle, told, frames, steps, threads, is_lean=True),
    ]
    with tempfile.TemporaryDirectory() as folder:
        no_op = write_tiny_bundle(Path(folder) / "no-op")
        frames = [tiny_observation(seed) for seed in range(16)]
        rows.append(_measure("no-op", no_op, "push the red cube", frames, no_op_steps, threads))
    write_results(out, {**provenance(), "settings": {"threads": threads}, "rows": rows})
    _show(rows)


def _measure(
    name: str,
    bundle: Path,
    told: str,
    frames: list[Observation],
    steps: int,
    threads: int,
    *,
    is_lean: bool = False,
) -> dict[str, Any]:
    manifest = Bundle.open(bundle).manifest
    profiles = [profile.name for profile in manifest.profiles]
    resident_kib: list[int] = []
    with (
        DaemonProcess(bundle, threads=threads, is_lean=is_lean) as daemon,
        Client(daemon.address, name="memory") as client,
        client.open() as session,
    ):
        ready = memory(daemon.pid)
        for step in track(range(steps), name):
            if step % _EPISODE == 0:
                session.reset(told)
            observation = dataclasses.replace(
                frames[step % len(frames)], captured_ns=monotonic_ns(), sequence=step % _EPISODE + 1
            )
            session.act(observation, profiles[step % len(profiles)])
            if (step + 1) % (steps // _SAMPLES) == 0:
                resident_kib.append(memory(daemon.pid)["resident"])
    return {
        "bundle": name,
        "files_kib": sum(spec.bytes for spec in manifest.files.values()) // 1024,
        "steps": steps,
        "ready_kib": ready,
        "resident_kib": resident_kib,
        "growth_kib": resident_kib[-1] - resident_kib[_SAMPLES // 4],
    }


def memory(pid: int) -> dict[str, int]:
    """Return the memory of a process by kind, KiB: what is resident now, what was at most, and where it comes from."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    kinds = {
        "resident": "VmRSS",
        "peak": "VmHWM",
        "anonymous": "RssAnon",
        "files": "RssFile",
        "shared": "RssShmem",
    }
    return {kind: int(lines[name].split()[0]) for kind, name in kinds.items()}


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(
        "bundle", "files MB", "steps", "ready MB", "peak MB", "end MB", "growth over the last 3/4, KiB"
    )
    for row in rows:
        ready = row["ready_kib"]
        kibs = (row["files_kib"], ready["resident"], ready["peak"], row["resident_kib"][-1])
        megabytes = [f"{kib * 1024 / 1e6:.1f}" for kib in kibs]
        table.add_row(
            row["bundle"], megabytes[0], f"{row['steps']:,}", *megabytes[1:], f"{row['growth_kib']:,}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
