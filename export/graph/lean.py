"""Passes over a captured graph that change no result: fewer nodes, nothing but mathematics left in the file."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from onnxscript import optimizer

FOLD_LIMIT = 1 << 31
"""Constants of any size are folded: weights are permuted once here, not at every control step."""


def make_lean(model: ir.Model) -> ir.Model:
    """Fold constants, turn element gathers into row gathers, merge equal nodes, drop provenance notes."""
    optimizer.optimize_ir(model, input_size_limit=FOLD_LIMIT, output_size_limit=FOLD_LIMIT)
    gather_whole_rows(model)
    sort_top_k(model)
    for clean in (
        common_passes.CommonSubexpressionEliminationPass(),
        common_passes.IdentityEliminationPass(),
        common_passes.LiftConstantsToInitializersPass(),
        common_passes.DeduplicateInitializersPass(),
        common_passes.RemoveUnusedNodesPass(),
        common_passes.OutputFixPass(),
        common_passes.RemoveUnusedOpsetsPass(),
        common_passes.TopologicalSortPass(),
    ):
        clean(model)
    compute_outputs(model)
    _drop_notes(model)
    return model


def gather_whole_rows(model: ir.Model) -> None:
    """Replace GatherElements whose index is the same in every column by Gather.

    torch.gather with an expanded index copies element by element; at batch 1 it is a copy of whole rows. Expand and
    the index tensor of full size disappear.
    """
    for node in list(model.graph):
        if node.op_type != "GatherElements":
            continue
        data, index = node.inputs
        axis = node.attributes.get_int("axis", 0)
        rows = _row_index(data, index, axis)
        if rows is None:
            continue
        source, count = rows
        flat = ir.node("Reshape", [source, _length(model, count)])
        gather = ir.node("Gather", [data, flat.outputs[0]], attributes={"axis": axis})
        flat.outputs[0].dtype, flat.outputs[0].shape = ir.DataType.INT64, ir.Shape([count])
        _replace(node, [flat, gather], model)


def sort_top_k(model: ir.Model) -> None:
    """Ask every TopK for sorted results: TensorRT knows no other, and sorted is also legal where unsorted was."""
    for node in model.graph:
        if node.op_type == "TopK":
            node.attributes["sorted"] = ir.AttrInt64("sorted", 1)


def compute_outputs(model: ir.Model) -> None:
    """Give constant outputs (the kept set of a full profile) a node: some parsers refuse outputs without one."""
    for position, value in enumerate(model.graph.outputs):
        if value.producer() is not None or value.is_graph_input():
            continue
        name = value.name or f"output_{position}"
        constant = model.graph.initializers.pop(name)
        constant.name = f"{name}.constant"
        identity = ir.node("Identity", [constant])
        output = identity.outputs[0]
        output.name, output.dtype, output.shape = name, constant.dtype, constant.shape
        model.graph.outputs[position] = output
        model.graph.register_initializer(constant)
        model.graph.append(identity)


def _row_index(data: ir.Value | None, index: ir.Value | None, axis: int) -> tuple[ir.Value, int] | None:
    """Return the one-dimensional content of ``index`` and its length, if it is constant along other axes."""
    data_shape, index_shape = _static(data), _static(index)
    if data_shape is None or index_shape is None:
        return None
    source, source_shape = index, index_shape
    maker = index.producer() if index is not None else None
    if maker is not None and maker.op_type == "Expand":
        source, source_shape = maker.inputs[0], _static(maker.inputs[0])
    if source is None or source_shape is None:
        return None
    others = [length for position, length in enumerate(source_shape) if position != axis]
    covered = all(
        index_shape[position] == length for position, length in enumerate(data_shape) if position != axis
    )
    if len(source_shape) != len(data_shape) or not covered or any(length != 1 for length in others):
        return None
    return source, source_shape[axis]


def _static(value: ir.Value | None) -> list[int] | None:
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return [int(length) for length in value.shape.numpy()]


def _length(model: ir.Model, count: int) -> ir.Value:
    """Return the initialiser [count]."""
    name = f"shape_{count}"
    if name not in model.graph.initializers:
        tensor = ir.tensor(np.array([count], dtype=np.int64), name=name)
        model.graph.register_initializer(
            ir.Value(
                name=name, shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.INT64), const_value=tensor
            )
        )
    return model.graph.initializers[name]


def _replace(node: ir.Node, nodes: list[ir.Node], model: ir.Model) -> None:
    """Put ``nodes`` where ``node`` was; the last one's output takes over its name, type and users."""
    old, new = node.outputs[0], nodes[-1].outputs[0]
    new.dtype, new.shape = old.dtype, old.shape
    ir.convenience.replace_nodes_and_values(model.graph, node, [node], nodes, [old], [new])


def _drop_notes(model: ir.Model) -> None:
    """Remove stack traces, module paths and symbolic notes: they name files of the exporting machine."""
    common_passes.ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    model.producer_name, model.producer_version = "saccade", ""
    for node in model.graph:
        for value in (*node.outputs, *(item for item in node.inputs if item is not None)):
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.metadata_props.clear()
