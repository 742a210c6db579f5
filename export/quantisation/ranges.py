"""How large do the numbers of a graph become? Too large for float16 is what recorded frames show to be near its end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from saccade.export.bundle.graph_session import open_graph
from saccade.export.lowering.precision import LARGEST, half_nodes, is_float
from saccade.export.quantisation.trajectory import StepRecord, serialised
from saccade.proto.manifest import StageSpec

MARGIN = 2.0
"""How many times larger than on the recorded frames a value may become before float16 ends."""
_SUFFIX = ".largest"


def largest_values(
    graph: Path,
    stage: StageSpec,
    records: Sequence[StepRecord],
    results: Collection[str],
    prepare: Callable[[ir.Model], None] = lambda model: None,
) -> dict[str, float]:
    """Return the largest absolute value of everything that could be float16 in a graph, or is cast to it, by name.

    Args:
        graph: Path of the graph, its weights beside it.
        stage: Its wiring; every input is a host, task or carry tensor.
        records: Control steps whose inputs the graph is run on, at least one.
        results: Names of the graph's outputs that the model is for.
        prepare: Rewrites the graph before, without changing what it computes.
    """
    model = ir.load(graph)
    prepare(model)
    names = [_add_largest(model, value) for value in _candidates(model, results)]
    session = open_graph(graph, serialised(model))
    seen = [
        session.run(names, {port: record.inputs[name] for port, name in stage.inputs.items()})
        for record in records
    ]
    largest = np.max(np.asarray(seen, np.float64), axis=0)
    return {name.removesuffix(_SUFFIX): float(value) for name, value in zip(names, largest, strict=True)}


def beyond(largest: Mapping[str, float]) -> dict[str, float]:
    """Return those of the largest values that leave float16 no margin, or are not finite."""
    return {name: value for name, value in largest.items() if not value * MARGIN <= LARGEST}


def _candidates(model: ir.Model, results: Collection[str]) -> list[ir.Value]:
    half = half_nodes(model, results=results)
    found: dict[ir.Value, None] = {}
    for node in model.graph:
        if node in half:
            found |= {
                value: None
                for value in (*node.inputs, *node.outputs)
                if value is not None and is_float(value) and value.const_value is None
            }
    return list(found)


def _add_largest(model: ir.Model, value: ir.Value) -> str:
    """Add an output with the largest absolute value of another, and return its name."""
    absolute = ir.node("Abs", [value])
    largest = ir.node("ReduceMax", absolute.outputs, {"keepdims": 0})
    absolute.outputs[0].name, largest.outputs[0].name = f"{value.name}.absolute", f"{value.name}{_SUFFIX}"
    for node, shape in ((absolute, value.shape), (largest, ir.Shape([]))):
        node.outputs[0].type, node.outputs[0].shape = value.type, shape
        model.graph.append(node)
    model.graph.outputs.append(largest.outputs[0])
    return f"{value.name}{_SUFFIX}"
