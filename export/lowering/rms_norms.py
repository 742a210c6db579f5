"""RMSNorm as torch's decomposition leaves it in a graph: found again among its primitives."""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

from saccade.export.lowering.row_gathers import static_shape


class RmsNorm(NamedTuple):
    """``x / sqrt(mean(x ** 2) + epsilon) * weight``.

    Args:
        x: What is normed, ``(..., channels)``.
        weight: Constant, ``(channels,)``.
        epsilon: Added to the mean.
        power: The node that squares.
        divide: The node that divides; only the multiplication reads it.
    """

    x: ir.Value
    weight: ir.Value
    epsilon: float
    power: ir.Node
    divide: ir.Node


def find_rms_norm(node: ir.Node) -> RmsNorm | None:
    """Return the norm that a node, its last multiplication, ends; None if it ends none.

    Args:
        node: Node of a captured graph.
    """
    if node.op_type != "Mul":
        return None
    for place in (0, 1):
        divide, weight = made_by(node.inputs[place], "Div"), node.inputs[1 - place]
        if (
            divide is None
            or weight is None
            or weight.const_value is None
            or len(divide.outputs[0].uses()) != 1
        ):
            continue
        x, root = divide.inputs[0], made_by(divide.inputs[1], "Sqrt")
        added = None if root is None else made_by(root.inputs[0], "Add")
        mean = None if added is None else made_by(added.inputs[0], "ReduceMean")
        power = None if mean is None else made_by(mean.inputs[0], "Pow")
        shape = static_shape(x)
        if (
            added is None
            or mean is None
            or power is None
            or x is None
            or shape is None
            or power.inputs[0] is not x
        ):
            continue
        epsilon, axis = scalar(added.inputs[1]), scalar(mean.inputs[1])
        is_last = axis in {-1.0, float(len(shape) - 1)} and static_shape(weight) == shape[-1:]
        if epsilon is not None and scalar(power.inputs[1]) == 2.0 and is_last:
            return RmsNorm(x, weight, epsilon, power, divide)
    return None


def made_by(value: ir.Value | None, kind: str) -> ir.Node | None:
    """Return the node that makes a value, if it is of a kind."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == kind else None


def scalar(value: ir.Value | None) -> float | None:
    """Return the number of a constant of one element."""
    tensor = None if value is None else value.const_value
    return float(tensor.numpy().item()) if tensor is not None and tensor.size == 1 else None
