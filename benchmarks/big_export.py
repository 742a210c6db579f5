"""Can a small machine export a model larger than its memory? A random 7B checkpoint, exported and watched.

    python -m benchmarks.big_export FOLDER

FOLDER takes 45 GB: the checkpoint in bfloat16 and the bundle in float32; both are removed at the end. What is written
down is the peak of the memory that the export needs of its own, beside the bound: 1.3 times the largest shard and 2 GB.
Every check of an export runs, ONNX Runtime against PyTorch too. Linux only: it reads ``/proc``.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.anonymous_memory import Watched, watch
from benchmarks.random_oft import Shape, write_random_frames, write_random_oft
from benchmarks.results_file import RESULTS, write_results
from saccade.sim.provenance import provenance

SHARD_FACTOR, OVER_BYTES = 1.3, 2_000_000_000


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--layers", default=32, show_default=True, help="Decoder layers; 32 is the 7B model.")
@click.option("--frames", default=1, show_default=True, help="Frames on which both engines are compared.")
@click.option("--keep", "keep_ratios", default="1.0,0.25", show_default=True, help="Profiles.")
@click.option("--policy", default="fastv", show_default=True, help="Token-selection policy.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS / "big_export.json")
def main(folder: Path, layers: int, frames: int, keep_ratios: str, policy: str, out: Path) -> None:
    """Write a checkpoint under FOLDER, export it, and write down what that took."""
    console, shape = Console(), Shape(text={"num_hidden_layers": layers})
    console.print("write the checkpoint")
    checkpoint = write_random_oft(folder / "checkpoint", shape)
    recording = write_random_frames(folder / "frames.npz", shape, frames)
    bundle = folder / "bundle"
    console.print("export it")
    saccade = str(Path(sys.executable).with_name("saccade"))
    options = ["--policy", policy, "--keep", keep_ratios, "--frames", str(recording)]
    watched = watch([saccade, "export", str(checkpoint), "--out", str(bundle), *options], folder / "log")
    if watched.code:
        raise click.ClickException(watched.said)
    results = _results(checkpoint, bundle, watched)
    shutil.rmtree(folder)
    settings = {
        "layers": layers,
        "views": shape.views,
        "policy": policy,
        "keep": keep_ratios,
        "frames": frames,
    }
    write_results(out, {**provenance(), "settings": settings, **results})
    console.print_json(json.dumps(results))


def _results(checkpoint: Path, bundle: Path, watched: Watched) -> dict[str, Any]:
    shards = [path.stat().st_size for path in sorted(checkpoint.glob("*.safetensors"))]
    heads = [path.stat().st_size for path in sorted(checkpoint.glob("*.pt"))]
    parity, made = (
        json.loads((bundle / "receipts" / f"{name}.json").read_text()) for name in ("parity", "export")
    )
    return {
        "shard_bytes": shards,
        "head_bytes": heads,
        "bundle_bytes": sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()),
        "machine_bytes": _memory_bytes(),
        "bound_bytes": int(SHARD_FACTOR * max(shards) + OVER_BYTES),
        "peak_anonymous_bytes": watched.peak_bytes,
        "wall_s": round(watched.seconds, 1),
        "part_s": made["seconds"],
        "parity": parity,
    }


def _memory_bytes() -> int:
    """Memory of the machine."""
    line = Path("/proc/meminfo").read_text().splitlines()[0]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
