"""How long each node of a bundle's graphs takes, by ONNX Runtime's own profiler, run by run."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from saccade.runtime.engines.ort import OrtBackend, OrtEngine

_KERNEL = "_kernel_time"


@dataclass(frozen=True)
class NodeTimes:
    """What the profiler says of one graph.

    Args:
        durations_us: Microseconds of each node, int64 ``(runs,)``, by the node's name.
        kinds: ONNX operator of each node, or ONNX Runtime's fusion of one.
        shapes: Of each node, the shape of each input by the name of its dtype, and that of its first output.
        runs_us: Microseconds of each whole run, as ONNX Runtime saw it, int64 ``(runs,)``.
    """

    durations_us: Mapping[str, NDArray[np.int64]]
    kinds: Mapping[str, str]
    shapes: Mapping[str, tuple[list[dict[str, list[int]]], list[int]]]
    runs_us: NDArray[np.int64]


class ProfilingBackend(OrtBackend):
    """``ort-cpu`` with the profiler on, and each optimised graph written down. Profiling takes time of its own.

    Args:
        folder: Existing folder for what ONNX Runtime writes.
        threads: Threads of one graph.
    """

    def __init__(self, folder: Path, *, threads: int) -> None:
        super().__init__(threads=threads)
        self._folder, self._loading = folder, ""
        self._engines: dict[str, OrtEngine] = {}

    def optimised(self, graph: str) -> Path:
        """Return the path of the graph that ONNX Runtime made of one of the bundle's, an ONNX file.

        Args:
            graph: Path of the graph in the bundle.
        """
        return self._folder / f"{_flat(graph)}.optimised.onnx"

    def node_times(self, graph: str) -> NodeTimes:
        """End the profile of a graph, and read it.

        Args:
            graph: Path of the graph in the bundle.
        """
        return read_profile(Path(self._engines[graph]._session.end_profiling()))  # noqa: SLF001 - ours

    def _load(
        self, name: str, files: Mapping[str, NDArray[np.uint8]], tables: dict[int, NDArray[Any]]
    ) -> OrtEngine:
        self._loading = name
        engine = self._engines[name] = super()._load(name, files, tables)
        return engine

    def _session_options(self) -> ort.SessionOptions:
        options = super()._session_options()
        options.enable_profiling = True
        options.profile_file_prefix = str(self._folder / _flat(self._loading))
        options.optimized_model_filepath = str(self.optimised(self._loading))
        return options


def read_profile(path: Path) -> NodeTimes:
    """Read a profile that ONNX Runtime wrote.

    Args:
        path: Path of the file, JSON in Chrome's trace format.

    Raises:
        ClickException: It has no whole run, or a node ran more often than others.
    """
    events = json.loads(path.read_text(encoding="utf-8"))
    runs = sorted((event["ts"], event["dur"]) for event in events if event["name"] == "model_run")
    if not runs:
        raise click.ClickException(f"expected runs in the profile {path.name}, found none.")
    starts = np.array([start for start, _ in runs])
    durations: dict[str, NDArray[np.int64]] = defaultdict(lambda: np.zeros(len(runs), np.int64))
    kinds: dict[str, str] = {}
    shapes: dict[str, tuple[list[dict[str, list[int]]], list[int]]] = {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith(_KERNEL):
            continue
        name, said = event["name"].removesuffix(_KERNEL), event["args"]
        durations[name][np.searchsorted(starts, event["ts"], side="right") - 1] += event["dur"]
        kinds[name] = said["op_name"]
        shapes[name] = said["input_type_shape"], _shape(said["output_type_shape"])
    return NodeTimes(dict(durations), kinds, shapes, np.array([duration for _, duration in runs]))


def _shape(outputs: Sequence[Mapping[str, list[int]]]) -> list[int]:
    return next(iter(outputs[0].values())) if outputs else []


def _flat(graph: str) -> str:
    return graph.replace("/", "_")
