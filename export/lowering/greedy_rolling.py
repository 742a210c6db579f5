"""A lowering: the unrolled greedy loop of diversity methods rolled up into one ONNX Loop of constant length.

The canonical graph has three nodes for each pick, which every engine runs and ONNX Runtime runs fastest. For hundreds
of picks an engine builder pays for that: TensorRT-RTX built 256 picks of 1,024 tokens unrolled in 1.5 s and 36 MB,
rolled up in 0.1 s and 2.5 MB (``benchmarks/results/greedy.json``; what a GPU takes to run either is not known). Results
are the same bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

FEWEST_PICKS = 8
"""Picks that a greedy loop has at least to be rolled up; shorter ones stay unrolled."""


class _Chain(NamedTuple):
    """One unrolled greedy loop, recognised."""

    gain: ir.Value
    first_pick: ir.Value
    start: ir.Value
    combine: str
    picks: int


def roll_greedy_loops(model: ir.Model) -> int:
    """Rewrite every unrolled greedy loop of the graph; return how many there were."""
    rolled = 0
    for node in list(model.graph):
        chain = _recognise(node) if node.op_type == "Concat" and len(node.inputs) >= FEWEST_PICKS else None
        if chain is None:
            continue
        _replace(model, node, chain, rolled)
        rolled += 1
    if rolled:
        ir.passes.common.RemoveUnusedNodesPass()(model)
        ir.passes.common.TopologicalSortPass()(model)
    return rolled


def _recognise(concat: ir.Node) -> _Chain | None:
    """Follow the picks that a Concat gathers; None if they are no greedy loop."""
    steps = []
    for place in range(1, len(concat.inputs)):
        step = _step(concat.inputs[place], concat.inputs[place - 1])
        if step is None:
            return None
        steps.append(step)
    gains, before, combines, after = zip(*steps, strict=True)
    first = concat.inputs[0]
    if len(set(gains)) != 1 or len(set(combines)) != 1 or first is None or before[1:] != after[:-1]:
        return None
    return _Chain(gains[0], first, before[0], combines[0], len(concat.inputs))


def _step(pick: ir.Value | None, last: ir.Value | None) -> tuple[ir.Value, ir.Value, str, ir.Value] | None:
    """Return gain, state before, how they combine, and state after, if ``pick`` follows ``last``."""
    arg_max = pick.producer() if pick is not None else None
    if arg_max is None or arg_max.op_type != "ArgMax" or arg_max.inputs[0] is None:
        return None
    state = arg_max.inputs[0]
    combine = state.producer()
    if combine is None or combine.op_type not in ("Min", "Add") or len(combine.inputs) != 2:
        return None
    for place in (0, 1):
        row, other = combine.inputs[place], combine.inputs[1 - place]
        gather = row.producer() if row is not None else None
        if gather is not None and gather.op_type == "GatherND" and gather.inputs[1] is last:
            gain = gather.inputs[0]
            return None if gain is None or other is None else (gain, other, combine.op_type, state)
    return None


def _replace(model: ir.Model, concat: ir.Node, chain: _Chain, number: int) -> None:
    """Put a Loop in the place of a chain."""
    trips = _constant(model, "greedy.trips", np.array(chain.picks - 1, np.int64), number)
    goes_on = _constant(model, "greedy.goes_on", np.array(True), number)
    batch = _length(chain.first_pick, 0)
    shape = _constant(model, "greedy.shape", np.array([chain.picks - 1, batch], np.int64), number)
    loop = ir.node(
        "Loop",
        [trips, goes_on, chain.start, chain.first_pick],
        attributes={"body": _body(chain, batch, f"greedy.{number}.")},
        num_outputs=3,
    )
    flat = ir.node("Reshape", [loop.outputs[2], shape])
    rest = ir.node("Transpose", [flat.outputs[0]], attributes={"perm": [1, 0]})
    joined = ir.node("Concat", [chain.first_pick, rest.outputs[0]], attributes={"axis": 1})
    for node, dtype, dims in (
        (flat, ir.DataType.INT64, [chain.picks - 1, batch]),
        (rest, ir.DataType.INT64, [batch, chain.picks - 1]),
    ):
        node.outputs[0].dtype, node.outputs[0].shape = dtype, ir.Shape(dims)
    for output, like in zip(loop.outputs[:2], (chain.start, chain.first_pick), strict=True):
        output.type, output.shape = like.type, like.shape
    loop.outputs[2].dtype = ir.DataType.INT64
    loop.outputs[2].shape = ir.Shape([chain.picks - 1, batch, 1])
    joined.outputs[0].type, joined.outputs[0].shape = concat.outputs[0].type, concat.outputs[0].shape
    ir.convenience.replace_nodes_and_values(
        model.graph, concat, [concat], [loop, flat, rest, joined], [concat.outputs[0]], [joined.outputs[0]]
    )


def _body(chain: _Chain, batch: int, prefix: str) -> ir.Graph:
    """One pick: gather its row, combine, pick the next. Names start with ``prefix``: scopes share one name space."""
    tokens = _length(chain.start, -1)
    trip = _value(prefix + "trip", ir.DataType.INT64, [])
    goes_on = _value(prefix + "goes_on", ir.DataType.BOOL, [])
    state = _value(prefix + "state", ir.DataType.FLOAT, [batch, tokens])
    pick = _value(prefix + "pick", ir.DataType.INT64, [batch, 1])
    gather = ir.node("GatherND", [chain.gain, pick], attributes={"batch_dims": 1})
    combine = ir.node(chain.combine, [state, gather.outputs[0]])
    arg_max = ir.node("ArgMax", [combine.outputs[0]], attributes={"axis": -1, "keepdims": 1})
    nodes = [gather, combine, arg_max]
    for name, node in zip(("row", "combined", "best"), nodes, strict=True):
        node.outputs[0].name = prefix + name
    ends = []
    for name, source in (("goes_on", goes_on), ("state", None), ("pick", None), ("picked", None)):
        produced = {"state": combine.outputs[0], "pick": arg_max.outputs[0], "picked": arg_max.outputs[0]}
        copy = ir.node("Identity", [source if source is not None else produced[name]])
        copy.outputs[0].name = f"{prefix}{name}.next"
        nodes.append(copy)
        ends.append(copy.outputs[0])
    for end, like in zip(ends, (goes_on, state, pick, pick), strict=True):
        end.type, end.shape = like.type, like.shape
    gather.outputs[0].type, gather.outputs[0].shape = state.type, state.shape
    combine.outputs[0].type, combine.outputs[0].shape = state.type, state.shape
    arg_max.outputs[0].type, arg_max.outputs[0].shape = pick.type, pick.shape
    return ir.Graph([trip, goes_on, state, pick], ends, nodes=nodes, name=prefix + "body")


def _value(name: str, dtype: ir.DataType, shape: list[int]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))


def _constant(model: ir.Model, name: str, array: np.ndarray, number: int) -> ir.Value:
    tensor = ir.tensor(array, name=f"{name}.{number}")
    value = ir.Value(
        name=tensor.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
    )
    model.graph.register_initializer(value)
    return value


def _length(value: ir.Value, axis: int) -> int:
    assert value.shape is not None  # noqa: S101 - every shape of a captured graph is static
    return int(value.shape.numpy()[axis])
