"""GatherElements whose index is the same in every column, rewritten as Gather.

torch.gather with an expanded index copies element by element; at batch 1 it copies whole rows. Greedy selection
gathers one row for each token it keeps, so this is most of its graph: of Unsqueeze, Expand, GatherElements and Squeeze,
a scalar Gather is left.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

_VIEWS = ("Unsqueeze", "Squeeze", "Reshape")


class _Rows(NamedTuple):
    """Rows that a GatherElements takes: ``number`` int64 in ``source``, of any shape."""

    source: ir.Value
    number: int


def gather_whole_rows(model: ir.Model) -> None:
    """Rewrite every GatherElements whose index is the same in every column as Gather; results are the same bits."""
    for node in list(model.graph):
        rows = _rows(node) if node.op_type == "GatherElements" else None
        if rows is None:
            continue
        axis = node.attributes.get_int("axis", 0)
        squeeze = _squeeze_of_one_row(node, axis) if rows.number == 1 else None
        shape = [] if squeeze is not None else [rows.number]
        flat = ir.node("Reshape", [rows.source, shape_constant(model, shape)])
        flat.outputs[0].dtype, flat.outputs[0].shape = ir.DataType.INT64, ir.Shape(shape)
        gather = ir.node("Gather", [node.inputs[0], flat.outputs[0]], attributes={"axis": axis})
        old, new = (node if squeeze is None else squeeze).outputs[0], gather.outputs[0]
        new.type, new.shape = old.type, old.shape
        replaced = [node] if squeeze is None else [squeeze, node]
        ir.convenience.replace_nodes_and_values(model.graph, node, replaced, [flat, gather], [old], [new])


def _rows(node: ir.Node) -> _Rows | None:
    """Return the rows, if the index covers every column and is constant along all axes but one."""
    axis = node.attributes.get_int("axis", 0)
    data_shape, index_shape = static_shape(node.inputs[0]), static_shape(node.inputs[1])
    source = _behind(node.inputs[1], ("Expand",))
    source_shape = static_shape(source)
    if data_shape is None or index_shape is None or source is None or source_shape is None:
        return None
    others = [place for place in range(len(data_shape)) if place != axis]
    if len(source_shape) != len(data_shape) or any(source_shape[place] != 1 for place in others):
        return None
    if source_shape[axis] != index_shape[axis] or any(
        index_shape[place] != data_shape[place] for place in others
    ):
        return None
    viewed = _behind(source, _VIEWS)
    viewed_shape = static_shape(viewed)
    if viewed is not None and viewed_shape is not None and prod(viewed_shape) == source_shape[axis]:
        source = viewed
    return _Rows(source, source_shape[axis])


def _squeeze_of_one_row(node: ir.Node, axis: int) -> ir.Node | None:
    """Return the Squeeze that drops the gathered axis, if nobody else reads the row."""
    users = list(node.outputs[0].uses())
    if len(users) != 1 or users[0].node.op_type != "Squeeze" or node.outputs[0].is_graph_output():
        return None
    squeeze = users[0].node
    axes = (
        squeeze.inputs[1].const_value if len(squeeze.inputs) > 1 and squeeze.inputs[1] is not None else None
    )
    return squeeze if axes is not None and axes.numpy().tolist() == [axis] else None


def _behind(value: ir.Value | None, kinds: tuple[str, ...]) -> ir.Value | None:
    """Return what ``value`` is a rearrangement of, one step back, or ``value`` itself."""
    maker = value.producer() if value is not None else None
    return maker.inputs[0] if maker is not None and maker.op_type in kinds else value


def static_shape(value: ir.Value | None) -> list[int] | None:
    """Return the shape of ``value`` if every axis is known."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return [int(length) for length in value.shape.numpy()]


def shape_constant(model: ir.Model, shape: list[int]) -> ir.Value:
    """Return an initialiser that holds ``shape``."""
    name = "shape_" + ("x".join(map(str, shape)) or "scalar")
    if name not in model.graph.initializers:
        tensor = ir.tensor(np.array(shape, dtype=np.int64), name=name)
        kind = ir.TensorType(ir.DataType.INT64)
        model.graph.register_initializer(
            ir.Value(name=name, shape=ir.Shape([len(shape)]), type=kind, const_value=tensor)
        )
    return model.graph.initializers[name]
