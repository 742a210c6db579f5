"""A vector times a batch of matrices becomes what every parser reads, and means the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from saccade.export.lowering.vector_products import make_vectors_rows


def _product(left: tuple[int, ...], right: tuple[int, ...]) -> onnx.ModelProto:
    result = np.matmul(np.zeros(left), np.zeros(right)).shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["left", "right"], ["result"], name="product")],
        "g",
        [
            helper.make_tensor_value_info("left", TensorProto.FLOAT, left),
            helper.make_tensor_value_info("right", TensorProto.FLOAT, right),
        ],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, result)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    ("left", "right", "rewritten"),
    [
        ((5,), (2, 5, 3), True),
        ((5,), (4, 2, 5, 3), True),
        ((5,), (5, 3), False),
        ((2, 3, 5), (5,), False),
        ((2, 4, 5), (2, 5, 3), False),
    ],
)
def test_only_a_vector_before_a_batch_is_rewritten_and_means_the_same(
    left: tuple[int, ...], right: tuple[int, ...], rewritten: bool, tmp_path: Path
) -> None:
    model = ir.serde.deserialize_model(_product(left, right))
    make_vectors_rows(model)
    ranks = [len(value.shape) for node in model.graph if node.op_type == "MatMul" for value in node.inputs]
    assert ([node.op_type for node in model.graph] == ["Reshape", "MatMul", "Reshape"]) is rewritten
    assert not (rewritten and 1 in ranks)
    path = tmp_path / "product.onnx"
    ir.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    draw = np.random.default_rng(0)
    given = {"left": draw.random(left, np.float32), "right": draw.random(right, np.float32)}
    (found,) = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, given)
    np.testing.assert_allclose(found, given["left"] @ given["right"], rtol=1e-6)
