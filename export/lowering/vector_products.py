"""A vector times a batch of matrices, rewritten as a matrix of one row times that batch.

ONNX allows both; the parser of TensorRT-RTX 1.7.1 refuses the first (it drops the added axis from the wrong end). A
batch of matrices times a vector is read correctly and stays.
"""

from __future__ import annotations

import onnx_ir as ir

from saccade.export.lowering.row_gathers import shape_constant, static_shape


def make_vectors_rows(model: ir.Model) -> None:
    """Rewrite every MatMul of a vector with a batch of matrices as one of a one-row matrix; results are the same."""
    for node in list(model.graph):
        if node.op_type != "MatMul":
            continue
        vector, matrices = static_shape(node.inputs[0]), static_shape(node.inputs[1])
        if vector is None or matrices is None or len(vector) > 1 or len(matrices) < 3:
            continue
        old = node.outputs[0]
        row = ir.node("Reshape", [node.inputs[0], shape_constant(model, [1, *vector])])
        row.outputs[0].type, row.outputs[0].shape = old.type, ir.Shape([1, *vector])
        product = ir.node("MatMul", [row.outputs[0], node.inputs[1]])
        product.outputs[0].type = old.type
        product.outputs[0].shape = ir.Shape([*matrices[:-2], 1, matrices[-1]])
        back = [*matrices[:-2], matrices[-1]]
        result = ir.node("Reshape", [product.outputs[0], shape_constant(model, back)])
        result.outputs[0].type, result.outputs[0].shape = old.type, ir.Shape(back)
        ir.convenience.replace_nodes_and_values(
            model.graph, node, [node], [row, product, result], [old], [result.outputs[0]]
        )
