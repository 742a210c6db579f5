"""What the weights of a graph are multiplied with, on recorded frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from saccade.export.bundle.graph_session import open_graph
from saccade.export.quantisation.trajectory import StepRecord, serialised
from saccade.proto.manifest import StageSpec

Rows = NDArray[np.float32]


def observe(
    graph: Path, stage: StageSpec, records: Sequence[StepRecord], values: Sequence[str]
) -> Iterator[dict[str, Rows]]:
    """Yield some values of a graph in each control step, by name, as they are.

    Args:
        graph: Path of the graph, its weights beside it.
        stage: Its wiring; every input is a host, task or carry tensor.
        records: Control steps whose inputs the graph is run on.
        values: Names of values of the graph.
    """
    model = ir.load(graph)
    wanted = set(values)
    outputs = {value.name for value in model.graph.outputs}
    for node in model.graph:
        model.graph.outputs.extend(
            value for value in node.outputs if value.name in wanted and value.name not in outputs
        )
    names = sorted(wanted)
    session = open_graph(graph, serialised(model))
    for record in records:
        feeds = {port: record.inputs[name] for port, name in stage.inputs.items()}
        yield dict(zip(names, session.run(names, feeds), strict=True))


def as_rows(values: Rows) -> Rows:
    """Return an activation as one row for each token, ``(tokens, inputs)``."""
    return values.reshape(-1, values.shape[-1])
