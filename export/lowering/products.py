"""The products of a graph with a constant weight: what quantisation is about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

SMALLEST_WEIGHT = 256
"""Numbers of a weight from which on it is worth quantising."""


@dataclass(frozen=True)
class Product:
    """The products of activations with one constant matrix: several where a graph repeats a layer.

    Args:
        name: Name of the weight, the same in all graphs of a bundle.
        stored: The weight as the graph has it.
        nodes: The ``MatMul`` nodes, in the order in which they run.
    """

    name: str
    stored: ir.Value
    nodes: tuple[ir.Node, ...]

    @property
    def weight(self) -> NDArray[np.float32]:
        """The weight, float32 ``(inputs, outputs)``; read anew each time."""
        tensor = self.stored.const_value
        assert tensor is not None  # noqa: S101 - it is a constant
        values: NDArray[np.float32] = tensor.numpy()
        return values

    @property
    def shape(self) -> tuple[int, int]:
        """Inputs and outputs of the weight."""
        inputs, outputs = self.stored.const_value.shape.numpy()  # type: ignore[union-attr]
        return int(inputs), int(outputs)

    @property
    def activations(self) -> tuple[ir.Value, ...]:
        """What the weight is multiplied with, float32 ``(..., inputs)`` each."""
        return tuple(value for node in self.nodes if (value := node.inputs[0]) is not None)


def find_products(model: ir.Model) -> list[Product]:
    """Return the products of a graph in the order in which they first run.

    Args:
        model: Graph, with its weights.
    """
    nodes: dict[str, list[ir.Node]] = {}
    stored: dict[str, ir.Value] = {}
    for node in model.graph:
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        tensor = None if weight is None else weight.const_value
        if weight is None or tensor is None or len(tensor.shape) != 2 or tensor.size < SMALLEST_WEIGHT:
            continue
        name = shared_name(weight)
        nodes.setdefault(name, []).append(node)
        stored[name] = weight
    return [Product(name, stored[name], tuple(nodes[name])) for name in nodes]


def shared_name(weight: ir.Value) -> str:
    """Return a name of a weight that is the same in all graphs of a bundle: its place in the file that they share.

    Args:
        weight: A constant of the graph.
    """
    tensor = weight.const_value
    return f"at {tensor.offset}" if isinstance(tensor, ir.ExternalTensor) else weight.name or ""


def is_shared(constant: ir.Value) -> bool:
    """Whether :func:`shared_name` says the same of a constant in every graph of a bundle: not if capture named it.

    Args:
        constant: A constant of the graph.
    """
    return isinstance(constant.const_value, ir.ExternalTensor) or "." in (constant.name or "")
