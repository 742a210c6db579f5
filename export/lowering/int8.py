"""int8 products for CPUs: weights of one scale for each output, activations quantised as they come.

``DynamicQuantizeLinear`` finds the range of an activation in each control step, ``MatMulInteger`` multiplies, and the
scales of both bring the sum back to float32: the form that ONNX Runtime runs as one kernel on x86 and Arm.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from numpy.typing import NDArray

from saccade.export.lowering.constants import add_constant
from saccade.export.lowering.products import Product, find_products

_LARGEST = 127


Smoothing = Mapping[str, NDArray[np.float32]]
"""What the inputs of a product's weight are multiplied with, float32 ``(inputs,)``, by the name of the product."""


def lower_to_int8(model: ir.Model, *, kept: Collection[str] = (), smoothing: Smoothing | None = None) -> None:
    """Rewrite a graph in place.

    Args:
        model: Graph in float32, with its weights.
        kept: Names of the products that stay in float32.
        smoothing: What the inputs of weights are multiplied with, because the activations were divided by it.
    """
    quantised: dict[ir.Value, tuple[ir.Value, ir.Value, ir.Value]] = {}
    for product in find_products(model):
        if product.name in kept:
            continue
        values, scales = int8_weight(smoothed(product, smoothing or {}))
        weight = add_constant(model, f"{product.stored.name}.int8", ir.tensor(values))
        scale = add_constant(model, f"{product.stored.name}.scale", ir.tensor(scales))
        for node, activation in zip(product.nodes, product.activations, strict=True):
            if activation not in quantised:
                quantised[activation] = _quantised(node, activation)
            _multiply(node, quantised[activation], weight, scale)
    common_passes.RemoveUnusedNodesPass()(model)
    common_passes.TopologicalSortPass()(model)


def smoothed(product: Product, smoothing: Smoothing) -> NDArray[np.float32]:
    """Return the weight of a product, its inputs multiplied as smoothing says.

    Args:
        product: The product.
        smoothing: What the inputs of weights are multiplied with, by the name of the product.
    """
    weight = product.weight
    scales = smoothing.get(product.name)
    return weight if scales is None else weight * scales[:, None]


def int8_weight(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a weight to the nearest of 255 values for each output.

    Args:
        weight: float32 ``(inputs, outputs)``.

    Returns:
        int8 ``(inputs, outputs)`` in -127..127, and float32 ``(outputs,)``, what one step is worth.
    """
    largest = np.abs(weight).max(axis=0)
    scales = (np.where(largest > 0, largest, 1.0) / _LARGEST).astype(np.float32)
    return np.clip(np.rint(weight / scales), -_LARGEST, _LARGEST).astype(np.int8), scales


def _quantised(before: ir.Node, activation: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Quantise an activation: its values in uint8, what one step is worth, and the value that stands for 0."""
    node = ir.node("DynamicQuantizeLinear", [activation], num_outputs=3)
    kinds = (ir.DataType.UINT8, ir.DataType.FLOAT, ir.DataType.UINT8)
    shapes = (activation.shape, ir.Shape([]), ir.Shape([]))
    for output, kind, shape, part in zip(node.outputs, kinds, shapes, ("uint8", "step", "zero"), strict=True):
        output.name, output.type, output.shape = f"{activation.name}.{part}", ir.TensorType(kind), shape
    _graph(before).insert_before(before, node)
    values, step, zero = node.outputs
    return values, step, zero


def _multiply(
    node: ir.Node, activation: tuple[ir.Value, ir.Value, ir.Value], weight: ir.Value, scale: ir.Value
) -> None:
    """Put an integer product in the place of a node."""
    values, step, zero = activation
    (old,) = node.outputs
    product = ir.node("MatMulInteger", [values, weight, zero])
    whole = ir.node("Cast", [product.outputs[0]], {"to": ir.DataType.FLOAT})
    worth = ir.node("Mul", [step, scale])
    scaled = ir.node("Mul", [whole.outputs[0], worth.outputs[0]])
    new = scaled.outputs[0]
    name = old.name or ""
    for each, part, kind, shape in (
        (product, "int32", ir.DataType.INT32, old.shape),
        (whole, "whole", ir.DataType.FLOAT, old.shape),
        (worth, "worth", ir.DataType.FLOAT, scale.shape),
    ):
        each.outputs[0].name, each.outputs[0].type = f"{name}.{part}", ir.TensorType(kind)
        each.outputs[0].shape = shape
    old.name, new.name = f"{name}.float32", name
    new.type, new.shape = old.type, old.shape
    nodes = [product, whole, worth, scaled]
    ir.convenience.replace_nodes_and_values(_graph(node), node, [node], nodes, [old], [new])


def _graph(node: ir.Node) -> ir.Graph:
    graph = node.graph
    assert isinstance(graph, ir.Graph)  # noqa: S101 - it is in one
    return graph
