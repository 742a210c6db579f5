"""Float16 for GPUs: weights and activations of the model in half the bytes, its islands in float32, said by casts.

Every tensor has the type that the graph gives it, as a strongly typed TensorRT network wants it; nothing is left to
the engine. Inputs and outputs of the graph keep their types.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from saccade.export.lowering.constants import add_constant
from saccade.export.lowering.precision import half_nodes, is_float

_HALF, _SINGLE = ir.DataType.FLOAT16, ir.DataType.FLOAT


def lower_to_float16(
    model: ir.Model, *, results: Collection[str] | None = None, wide: Collection[str] = ()
) -> list[str]:
    """Rewrite a graph in place.

    Args:
        model: Captured graph in float32, with its weights.
        results: Names of the outputs that the model is for; None = every float32 output.
        wide: Names of values that do not fit into float16.

    Returns:
        Names of the values that are float16 now, in the order in which they are computed.
    """
    chosen = half_nodes(model, results=results, wide=wide)
    order = [node for node in model.graph if node in chosen]
    narrow = [value for node in order for value in node.outputs if is_float(value)]
    names = [value.name or "" for value in narrow]
    is_narrow = set(narrow)
    for value in narrow:
        value.type = ir.TensorType(_HALF)  # a new one: values may share theirs
    for node in order:
        for place, read in enumerate(node.inputs):
            if read is not None and is_float(read) and read not in is_narrow:
                node.replace_input_with(place, _halved(model, node, read))
    for value in narrow:
        _widen(model, value, chosen)
    common_passes.RemoveUnusedNodesPass()(model)
    common_passes.TopologicalSortPass()(model)
    return names


def half_tensor(tensor: ir.TensorProtocol, name: str) -> ir.LazyTensor:
    """Return a constant in float16, read and rounded to the nearest only when it is written.

    Args:
        tensor: Its numbers, float32.
        name: Its name.
    """

    def rounded() -> ir.TensorProtocol:
        return ir.tensor(np.ascontiguousarray(tensor.numpy().astype(np.float16)))

    return ir.LazyTensor(rounded, _HALF, ir.Shape(tensor.shape.numpy()), name=name)


def _halved(model: ir.Model, reader: ir.Node, value: ir.Value) -> ir.Value:
    """Return a float32 value in float16: a constant of that type, or one cast for all that read it."""
    name = f"{value.name}.float16"
    if value.const_value is not None:
        return add_constant(model, name, half_tensor(value.const_value, name))
    for use in value.uses():
        if use.node.op_type == "Cast" and use.node.outputs[0].name == name:
            return use.node.outputs[0]
    return _cast(model, value, name, _HALF, reader)


def _widen(model: ir.Model, value: ir.Value, half: Collection[ir.Node]) -> None:
    """Give a float16 value back in float32 to all that compute in it, and to whoever reads the graph's output."""
    readers = [use for use in value.uses() if use.node not in half]
    is_output = value.is_graph_output()
    if not readers and not is_output:
        return
    name = value.name or ""
    if is_output:
        value.name = f"{name}.float16"
    wide = _cast(model, value, name if is_output else f"{name}.float32", _SINGLE)
    for use in readers:
        use.node.replace_input_with(use.idx, wide)
    if is_output:
        for place, output in enumerate(model.graph.outputs):
            if output is value:
                model.graph.outputs[place] = wide


def _cast(
    model: ir.Model, value: ir.Value, name: str, dtype: ir.DataType, reader: ir.Node | None = None
) -> ir.Value:
    """Cast a value once, behind what makes it."""
    node = ir.node("Cast", [value], {"to": dtype}, name=f"cast.{name}")
    made = node.outputs[0]
    made.name, made.type, made.shape = name, ir.TensorType(dtype), value.shape
    maker = value.producer()
    if maker is not None:
        model.graph.insert_after(maker, node)
    elif reader is not None:  # an input of the graph
        model.graph.insert_before(reader, node)
    return made
