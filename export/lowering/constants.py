"""Adds a constant to a graph."""

from __future__ import annotations

import onnx_ir as ir


def add_constant(model: ir.Model, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """Return a new constant of a graph, or that which already has the name.

    Args:
        model: Graph that gets it.
        name: Its name.
        tensor: Its values.
    """
    if name not in model.graph.initializers:
        kind, shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
        model.graph.register_initializer(ir.Value(name=name, type=kind, shape=shape, const_value=tensor))
    return model.graph.initializers[name]
