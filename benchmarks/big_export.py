"""Can a small machine export a model larger than its memory? A random 7B checkpoint, exported and watched.

    python -m benchmarks.big_export openvla-oft FOLDER
    python -m benchmarks.big_export llava-1.5 FOLDER
    python -m benchmarks.big_export pi0 FOLDER

FOLDER takes 45 GB: the checkpoint in bfloat16 and the bundle in float32; both are removed at the end. What is written
down is the peak of the memory that the export needs of its own, beside the bound: 1.3 times the largest shard and 2 GB.
Every check of an export runs, ONNX Runtime against PyTorch too. Linux only: it reads ``/proc``.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks import random_llava, random_oft, random_pi
from benchmarks.anonymous_memory import Watched, watch
from benchmarks.results_file import RESULTS, read_results, write_results
from saccade.export.families.pi import pi0
from saccade.runtime.provenance import provenance

SHARD_FACTOR, OVER_BYTES = 1.3, 2_000_000_000
SHARD_BYTES = 2_000_000_000


def _openvla_oft(checkpoint: Path, frames: int) -> list[str]:
    """Llama-2-7B behind DINOv2 and SigLIP, one camera."""
    shape = random_oft.Shape(text={}, shard_bytes=SHARD_BYTES)
    random_oft.write_random_oft(checkpoint, shape)
    recording = checkpoint.with_name("frames.npz")
    random_oft.write_random_frames(recording, shape, frames)
    return ["export", "--frames", str(recording)]


def _llava(checkpoint: Path, frames: int) -> list[str]:
    """Llama-2-7B behind CLIP; an answering export draws its own pictures and questions."""
    random_llava.write_random_llava(checkpoint, text={}, tower={}, shard_bytes=SHARD_BYTES)
    return ["export-answering", "--questions", str(frames)]


def _pi0(checkpoint: Path, frames: int) -> list[str]:
    """PaliGemma 3B and an expert of 300M, three cameras, ten Euler steps."""
    random_pi.write_random_pi(checkpoint, pi0, {}, views=3, shard_bytes=SHARD_BYTES)
    recording = checkpoint.with_name("frames.npz")
    random_pi.write_random_frames(recording, views=3, image_px=224, frames=frames)
    return ["export", "--frames", str(recording)]


MODELS: dict[str, Callable[[Path, int], list[str]]] = {
    "openvla-oft": _openvla_oft,
    "llava-1.5": _llava,
    "pi0": _pi0,
}
"""Functions that write a checkpoint of each shape, frames beside it, and say what exports it."""


@click.command()
@click.argument("model", type=click.Choice(list(MODELS)))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--frames", default=1, show_default=True, help="Frames on which both engines are compared.")
@click.option("--keep", "keep_ratios", default="1.0,0.25", show_default=True, help="Profiles.")
@click.option("--policy", default="fastv", show_default=True, help="Token-selection policy.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS / "big_export.json")
def main(model: str, folder: Path, frames: int, keep_ratios: str, policy: str, out: Path) -> None:
    """Write a checkpoint of MODEL's shape under FOLDER, export it, and write down what that took."""
    console = Console()
    console.print("write the checkpoint")
    checkpoint, bundle = folder / "checkpoint", folder / "bundle"
    command, *options = MODELS[model](checkpoint, frames)
    console.print("export it")
    saccade = str(Path(sys.executable).with_name("saccade"))
    options += ["--policy", policy, "--keep", keep_ratios]
    watched = watch([saccade, command, str(checkpoint), "--out", str(bundle), *options], folder / "log")
    if watched.code:
        raise click.ClickException(watched.said)
    results = _results(checkpoint, bundle, watched)
    shutil.rmtree(folder)
    settings = {"policy": policy, "keep": keep_ratios, "frames": frames}
    write_results(out, {**read_results(out), model: {**provenance(), "settings": settings, **results}})
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
        "part_s": made.get("seconds", {}),
        "parity": parity,
    }


def _memory_bytes() -> int:
    """Memory of the machine."""
    line = Path("/proc/meminfo").read_text().splitlines()[0]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
