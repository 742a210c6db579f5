"""A graph in float16, letter by letter, and what it computes: by the reference evaluator, ONNX Runtime, and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from saccade.export.bundle.tensorrt_rtx import check_tensorrt_rtx
from saccade.export.lowering.float16 import half_tensor, lower_to_float16
from saccade.export.lowering.lint import lint
from tests.export.lowering.attention_graph import block, by_hand, drawn, run, weights

GOLDEN = """\
LayerNormalization x layer.norm1 layer.norm1.bias -> n1 FLOAT
Cast n1 -> n1.float16 FLOAT16
MatMul n1.float16 layer.q.float16 -> q FLOAT16
MatMul n1.float16 layer.k.float16 -> k FLOAT16
MatMul n1.float16 layer.v.float16 -> v FLOAT16
Transpose k -> kt FLOAT16
MatMul q kt -> logits FLOAT16
Unsqueeze logits one -> heads FLOAT16
Cast heads -> heads.float32 FLOAT
Softmax heads.float32 -> attention FLOAT
Cast attention -> attention.float16 FLOAT16
Squeeze attention.float16 one -> shares FLOAT16
MatMul shares v -> mixed FLOAT16
Cast mixed -> mixed.float32 FLOAT
MatMul mixed.float32 layer.o -> o FLOAT
Add x o -> mid FLOAT
LayerNormalization mid layer.norm2 layer.norm2.bias -> n2 FLOAT
Cast n2 -> n2.float16 FLOAT16
MatMul n2.float16 layer.up.float16 -> up FLOAT16
Relu up -> relu FLOAT16
Cast relu -> relu.float32 FLOAT
MatMul relu.float32 layer.down -> down FLOAT
Add mid down -> y FLOAT
"""


def written(model: ir.Model) -> str:
    return "".join(
        f"{node.op_type} {' '.join(value.name or '' for value in node.inputs if value is not None)} -> "
        f"{node.outputs[0].name} {node.outputs[0].dtype.name if node.outputs[0].dtype else '?'}\n"
        for node in model.graph
    )


def test_the_graph_letter_by_letter(tmp_path: Path) -> None:
    model = block(weights())
    names = lower_to_float16(model)
    assert written(model) == GOLDEN
    assert names == ["q", "k", "v", "kt", "logits", "heads", "shares", "mixed", "up", "relu"]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    lint(model, "block")
    ir.save(model, tmp_path / "block.onnx")


@pytest.mark.tensorrt_rtx
def test_a_strongly_typed_tensorrt_network_takes_it(tmp_path: Path) -> None:
    model = block(weights())
    lower_to_float16(model)
    ir.save(model, tmp_path / "block.onnx")
    assert check_tensorrt_rtx(tmp_path / "block.onnx", ()).layers > 0


def test_it_computes_the_same_as_far_as_float16_goes() -> None:
    values = weights()
    model = block(values)
    lower_to_float16(model)
    evaluator = ReferenceEvaluator(ir.to_proto(model))
    for seed in range(3):
        x = drawn(seed)
        wanted = by_hand(x, values)
        (reference,) = evaluator.run(None, {"x": x})
        (found,) = run(model, x)
        assert found.dtype == reference.dtype == np.float32, "outputs keep their type"
        for each in (reference, found):
            error = np.abs(each - wanted).max() / np.abs(wanted).max()
            assert 1e-6 < error < 2e-3, "rounded, and to three digits"


def test_an_output_keeps_its_name_and_type() -> None:
    model = block(weights())
    (up,) = [node.outputs[0] for node in model.graph if node.name == "node_up"]
    model.graph.outputs.append(up)
    lower_to_float16(model, results=["y"])
    assert [(value.name, value.dtype) for value in model.graph.outputs] == [
        ("y", ir.DataType.FLOAT),
        ("up", ir.DataType.FLOAT),
    ]
    x, values = drawn(), weights()
    plain = block(values)
    plain.graph.outputs.append(next(node.outputs[0] for node in plain.graph if node.name == "node_up"))
    np.testing.assert_allclose(run(model, x, "up")[0], run(plain, x, "up")[0], atol=2e-2)


def test_what_only_casts_read_is_stored_once_and_in_half_the_bytes() -> None:
    model = block(weights())
    lower_to_float16(model)
    constants = model.graph.initializers
    assert constants["layer.q.float16"].const_value.nbytes * 2 == weights()["layer.q"].nbytes  # type: ignore[union-attr]
    (q,) = [node for node in model.graph if node.outputs[0].name == "q"]
    assert q.inputs[1] is constants["layer.q.float16"]


def test_a_constant_is_rounded_to_nearest() -> None:
    given = np.float32([[1, 1 + 2**-11, 1 + 3 * 2**-11, -65504, 1e-9]])
    tensor = half_tensor(ir.tensor(given), "a")
    np.testing.assert_array_equal(tensor.numpy(), given.astype(np.float16))
    assert list(tensor.numpy()[0, :3]) == [1, 1, 1 + 2**-9] and tensor.dtype == ir.DataType.FLOAT16
