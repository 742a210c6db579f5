"""int4 weights in blocks: ``DequantizeLinear`` before each product, the form that every engine with int4 reads.

ONNX Runtime fuses it with the product into one kernel that never makes the float32 weight; TensorRT does the like. A
block is a run of inputs of one output that share a scale; values are symmetric, so there is no zero point.
"""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from saccade.export.lowering.constants import add_constant
from saccade.export.lowering.gptq import RoundedWeight
from saccade.export.lowering.products import find_products

BLOCK_OPSET = 21
"""Opset in which ``DequantizeLinear`` learnt blocks and int4."""


def lower_to_int4(model: ir.Model, rounded: Mapping[str, RoundedWeight]) -> None:
    """Rewrite a graph in place.

    Args:
        model: Graph in float32, with its weights.
        rounded: Weights in int4 by the name of their product; the other products stay as they are.
    """
    for product in find_products(model):
        if product.name not in rounded:
            continue
        weight, stored = rounded[product.name], product.stored
        block = len(weight.values) // len(weight.scales)
        values = add_constant(model, f"{stored.name}.int4", ir.tensor(weight.values.astype(ml_dtypes.int4)))
        scales = add_constant(model, f"{stored.name}.scale", ir.tensor(np.ascontiguousarray(weight.scales)))
        node = ir.node("DequantizeLinear", [values, scales], {"axis": 0, "block_size": block})
        whole = node.outputs[0]
        whole.name, whole.type, whole.shape = f"{stored.name}.float32", stored.type, stored.shape
        model.graph.insert_before(product.nodes[0], node)
        for each in product.nodes:
            each.replace_input_with(1, whole)
    model.graph.opset_imports[""] = max(BLOCK_OPSET, model.graph.opset_imports[""])
    common_passes.RemoveUnusedNodesPass()(model)
