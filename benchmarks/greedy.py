"""What greedy diversity costs: nodes, export time, time of a run, engine size; unrolled and rolled up into a Loop.

    python -m benchmarks.greedy

Selection alone (max-min diversity over all tokens), random embeddings of width 1024, one engine thread; all forms of
one size are timed in turn, round after round.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import torch
from torch import Tensor, nn

from benchmarks.results_file import RESULTS, latency_summary, write_results
from saccade.export.bundle.tensorrt_rtx import check_tensorrt_rtx
from saccade.export.lowering.capture import GraphPorts, to_graph
from saccade.export.lowering.greedy_rolling import roll_greedy_loops
from saccade.policies.blocks.diversity import max_min_diversity
from saccade.policies.blocks.selection import ascending
from saccade.proto.errors import SaccadeError
from saccade.runtime.provenance import provenance

SIZES = ((256, 64), (256, 128), (512, 128), (512, 256), (1024, 64), (1024, 256))
WIDTH = 1024


class _Selection(nn.Module):
    """Max-min diversity, ascending indices."""

    def __init__(self, keep: int) -> None:
        super().__init__()
        self.keep = keep

    def forward(self, embeddings: Tensor) -> Tensor:
        everyone = torch.ones(embeddings.shape[:2], dtype=torch.bool)
        return ascending(max_min_diversity(embeddings, everyone, self.keep))


class _Products(nn.Module):
    """What any selection by cosine pays: the products of all pairs."""

    def forward(self, embeddings: Tensor) -> Tensor:
        unit = nn.functional.normalize(embeddings, dim=-1)
        return (unit @ unit.transpose(1, 2)).amin(dim=1)


@click.command()
@click.option("--rounds", default=40, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS / "greedy.json", show_default=True)
def main(rounds: int, out: Path) -> None:
    """Measure every size and write OUT."""
    entries: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for tokens, keep in SIZES:
            entries += _measure(tokens, keep, rounds, Path(folder))
            for entry in entries[-3:]:
                click.echo({key: value for key, value in entry.items() if key != "raw_us"})
    write_results(out, {**provenance(), "rounds": rounds, "width": WIDTH, "threads": 1, "entries": entries})


def _measure(tokens: int, keep: int, rounds: int, folder: Path) -> list[dict[str, Any]]:
    embeddings = torch.randn(1, tokens, WIDTH, generator=torch.Generator().manual_seed(0))
    entries, sessions = [], []
    for form, module in (
        ("products", _Products()),
        ("unrolled", _Selection(keep)),
        ("loop", _Selection(keep)),
    ):
        started = time.monotonic()
        ports = GraphPorts(("embeddings",), ("kept",))
        model = to_graph(module, (embeddings,), ports, form)
        if form == "loop":
            roll_greedy_loops(model)
        seconds = time.monotonic() - started
        path = folder / f"{form}.{tokens}.{keep}.onnx"
        ir.save(model, path)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        sessions.append(ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]))
        entries.append(
            {
                "tokens": tokens,
                "keep": keep,
                "form": form,
                "nodes": len(list(model.graph)),
                "export_s": round(seconds, 2),
                **_engine(path),
            }
        )
    durations: list[list[int]] = [[] for _ in sessions]
    feed = {"embeddings": embeddings.numpy()}
    results: list[Any] = [None] * len(sessions)
    for number in range(rounds + 2):
        for place, session in enumerate(sessions):
            started_ns = time.monotonic_ns()
            (results[place],) = session.run(None, feed)
            if number >= 2:
                durations[place].append(time.monotonic_ns() - started_ns)
    np.testing.assert_array_equal(results[1], results[2])
    return [{**entry, **latency_summary(raw)} for entry, raw in zip(entries, durations, strict=True)]


def _engine(path: Path) -> dict[str, Any]:
    """Size and build time of a TensorRT-RTX engine for SM89, if the builder is installed."""
    try:
        receipt = check_tensorrt_rtx(path, ("SM89",))
    except SaccadeError as error:
        return {"tensorrt_rtx": error.message.splitlines()[0]}
    plan = receipt.plans["SM89"]
    return {"tensorrt_rtx": {"bytes": plan.bytes, "build_s": round(plan.seconds, 2)}}


if __name__ == "__main__":
    main()
