"""How long does an export take as models get deeper? Tiny widths, the published number of layers, every check on.

    python -m benchmarks.deep_export

Each model is exported at several depths with the four usual profiles. What is written down is the wall time of every
part of the work, and how it grows with the layers.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.anonymous_memory import watch
from benchmarks.random_llava import write_random_llava
from benchmarks.random_oft import Shape
from benchmarks.random_openvla import write_random_openvla
from benchmarks.random_pi import write_random_pi
from benchmarks.results_file import RESULTS, read_results, write_results
from saccade.export.families.pi import pi0
from saccade.runtime.provenance import provenance

SHARD_BYTES = 50_000_000
KEEP = "1.0,0.5,0.25,0.125"
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16}
_TEXT = {"hidden_size": 64, "intermediate_size": 128, **_HEADS}
_TOWER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 56,
    "patch_size": 14,
}


def _openvla(folder: Path, layers: int) -> list[str]:
    """A Llama behind two towers that says seven action tokens."""
    tower = {"width": 32, "depth": 4, "heads": 4, "mlp_dim": 64}
    shape = Shape(
        text={**_TEXT, "num_hidden_layers": layers},
        towers=(tower, tower),
        image_px=56,
        shard_bytes=SHARD_BYTES,
    )
    write_random_openvla(folder, shape)
    return ["export"]


def _pi0(folder: Path, layers: int) -> list[str]:
    """A Gemma and an expert of as many layers, ten Euler steps."""
    text = {**_TEXT, "model_type": "gemma", "num_hidden_layers": layers, "vocab_size": 96}
    config = {
        "vlm_config": {
            "model_type": "paligemma",
            "text_config": text,
            "vision_config": {"model_type": "siglip_vision_model", **_TOWER},
        },
        "dit_config": {**text, "hidden_size": 32, "intermediate_size": 64},
    }
    write_random_pi(folder, pi0, config, views=2, shard_bytes=SHARD_BYTES)
    return ["export"]


def _llava(folder: Path, layers: int) -> list[str]:
    """A Llama that answers: a prompt graph and a token graph for each profile."""
    text = {**_TEXT, "num_hidden_layers": layers}
    write_random_llava(folder, text=text, tower=_TOWER, shard_bytes=SHARD_BYTES)
    return ["export-answering", "--questions", "2"]


MODELS: dict[str, tuple[Callable[[Path, int], list[str]], tuple[int, ...]]] = {
    "openvla": (_openvla, (16, 32)),
    "pi0": (_pi0, (9, 18)),
    "llava": (_llava, (14, 28)),
}
"""What writes a checkpoint of so many layers and says what exports it; and the depths, the published one last."""


@click.command()
@click.option("--only", type=click.Choice(list(MODELS)), multiple=True, help="Models; all if not given.")
@click.option("--policy", default="fastv", show_default=True, help="Token-selection policy.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS / "deep_export.json")
def main(only: tuple[str, ...], policy: str, out: Path) -> None:
    """Export each model at each depth and write down what that took."""
    for name in only or MODELS:
        write, depths = MODELS[name]
        entry = {"keep": KEEP, "policy": policy, "depths": [_export(write, n, policy) for n in depths]}
        write_results(out, {**read_results(out), name: {**provenance(), **entry}})


def _export(write: Callable[[Path, int], list[str]], layers: int, policy: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        checkpoint, bundle = folder / "checkpoint", folder / "bundle"
        command, *options = write(checkpoint, layers)
        saccade = str(Path(sys.executable).with_name("saccade"))
        arguments = [str(checkpoint), "--out", str(bundle), "--keep", KEEP, "--policy", policy, *options]
        watched = watch([saccade, command, *arguments], folder / "log")
        if watched.code:
            raise click.ClickException(watched.said)
        parts = json.loads((bundle / "receipts" / "export.json").read_text())["seconds"]
        shutil.rmtree(bundle)
    result = {"layers": layers, "wall_s": round(watched.seconds, 1), "part_s": parts}
    Console().print_json(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
