"""What choosing costs in saccade-mini, and in a model nearer to what robots run: random weights there, speed only.

    python -m benchmarks.selection.share --work ../share

saccade-mini takes some 20 ms for a pruned control step, so a fifth of a millisecond is a percent of it. The other
model is of the same family: two views of 224 px, 512 visual tokens, ViT-S, a decoder of 12 layers. Each policy is
compared with a fixed selection with the same cut, round by round, so that a slow minute slows both; the share is the
median over rounds of (policy - fixed) / policy.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from benchmarks.results_file import RESULTS, write_results
from benchmarks.selection.bundles import MINI, export_all
from benchmarks.selection.contenders import CONTENDERS, LAYER, Contender
from benchmarks.selection.latency import measure_latencies
from saccade.export.families.openvla_oft import checkpoint as openvla_oft
from saccade.export.families.openvla_oft.config import OftConfig
from saccade.export.families.openvla_oft.model import OpenVlaOft, initialise
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.models.decoder import DecoderConfig
from saccade.export.models.vision_transformer import VisionConfig
from saccade.proto.manifest import LimitsSpec
from saccade.proto.statistics import STATISTICS_NAME
from saccade.runtime.provenance import provenance

CHECKPOINT = MINI / "checkpoint"
RATIOS = (1.0, 0.25)
FIELD = ("vla_pruner", "fastv", "todre", "divprune", "centre crop", f"centre crop at layer {LAYER}")


@click.command()
@click.option(
    "--work", type=click.Path(path_type=Path), required=True, help="For checkpoint and bundles; reused."
)
@click.option("--rounds", default=40, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), default=RESULTS / "selection_share.json", show_default=True
)
def main(work: Path, rounds: int, threads: int, out: Path) -> None:
    """Export both models with every policy, time them side by side, and write OUT."""
    console = Console()
    checkpoint, parameters = _checkpoint(work / "checkpoint")
    models = {"saccade-mini": CHECKPOINT, f"random, {parameters / 1e6:.0f} M parameters": checkpoint}
    field = [contender for contender in CONTENDERS if contender.label in FIELD]
    shares, entries = [], []
    for model, folder in models.items():
        bundles = export_all(
            field, work / folder.parent.name, RATIOS, console.print, checkpoint=folder, frames=None
        )
        found = measure_latencies(bundles, rounds=rounds, threads=threads)
        shares += [{"model": model, **share} for share in _shares(field, found)]
        entries += [{"model": model, **entry} for entry in found]
    for share in shares:
        console.print(share)
    write_results(out, {**provenance(), "threads": threads, "shares": shares, "entries": entries})


def _config() -> OftConfig:
    mini = openvla_oft.load(CheckpointFolder(CHECKPOINT)).model.config
    tower = VisionConfig(
        image_size=224, patch_size=14, width=384, depth=12, heads=6, mlp_dim=1536, final_norm=True
    )
    decoder = DecoderConfig(
        width=768,
        layers=12,
        heads=12,
        kv_heads=4,
        head_dim=64,
        mlp_dim=2048,
        vocab_size=mini.decoder.vocab_size,
        causal=False,
    )
    return OftConfig(
        towers=(tower,),
        decoder=decoder,
        views=mini.views,
        chunk=mini.chunk,
        action_dim=mini.action_dim,
        proprio_dim=mini.proprio_dim,
        max_text_tokens=mini.max_text_tokens,
    )


def _checkpoint(path: Path) -> tuple[Path, int]:
    """Write the random model with saccade-mini's embodiment; return its folder and its number of parameters."""
    mini = openvla_oft.load(CheckpointFolder(CHECKPOINT))
    model = initialise(OpenVlaOft(_config()), seed=0)
    numbers = mini.embodiment.action.dim
    # Random weights act wildly, and the daemon's limiter would not have it.
    limits = LimitsSpec((-1e3,) * numbers, (1e3,) * numbers, (1e3,) * numbers)
    openvla_oft.save_checkpoint(
        model,
        path,
        embodiment=replace(mini.embodiment, limits=limits),
        statistics=json.loads((CHECKPOINT / STATISTICS_NAME).read_text(encoding="utf-8")),
        tokenizer=CHECKPOINT / "tokenizer.json",
    )
    return path, sum(parameter.numel() for parameter in model.parameters())


def _shares(field: list[Contender], entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each policy and profile, the median and the quartiles of what choosing takes."""
    raw = {(entry["label"], entry["profile"]): np.array(entry["raw_us"]) for entry in entries}
    found = []
    for contender in field:
        for (label, profile), own in raw.items():
            if label != contender.label or contender.twin is None:
                continue
            assert len(own) == len(raw[contender.twin, profile])  # noqa: S101 - a round is compared with itself
            low, middle, high = np.percentile((own - raw[contender.twin, profile]) / own, (25, 50, 75))
            found.append(
                {
                    "label": label,
                    "profile": profile,
                    "step_ms": round(float(np.median(own)) / 1e3, 1),
                    "share": round(float(middle), 4),
                    "quartiles": [round(float(low), 4), round(float(high), 4)],
                }
            )
    return found


if __name__ == "__main__":
    main()
