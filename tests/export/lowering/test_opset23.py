"""Single operators compute what the primitives did: oracles are onnx's reference evaluator and ONNX Runtime."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from saccade.export.bundle.tensorrt_rtx import check_tensorrt_rtx
from saccade.export.lowering.float16 import lower_to_float16
from saccade.export.lowering.opset23 import fuse_to_opset23
from saccade.export.steps.selecting_module import initial_state
from saccade.proto.errors import ReceiptError
from tests.export.policy_graphs import DEEP_CONFIG, deep_model, policy_graph, policy_step
from tests.export.samples import observation

LAYERS, BLOCKS = DEEP_CONFIG.decoder.layers, DEEP_CONFIG.towers[0].depth


def fused() -> ir.Model:
    model = policy_graph("fastv").clone()
    fuse_to_opset23(model)
    return model


@cache
def feeds() -> dict[str, NDArray[np.generic]]:
    step = policy_step("fastv")
    given = zip(step.ports.inputs, (*observation(deep_model()), *initial_state(step)), strict=True)
    read = {value.name for value in policy_graph("fastv").graph.inputs}
    return {name: tensor.numpy() for name, tensor in given if name in read}


def run(model: ir.Model) -> list[NDArray[np.float32]]:
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[NDArray[np.float32]] = session.run(["actions", "kept"], feeds())
    return found


def test_every_norm_rotary_and_unread_attention_of_a_model_is_found() -> None:
    model = policy_graph("fastv").clone()
    counts = fuse_to_opset23(model)
    assert counts["RMSNormalization"] == 2 * LAYERS + 1
    assert counts["RotaryEmbedding"] == 2 * LAYERS
    left = [node for node in model.graph if node.op_type == "Softmax"]
    assert counts["Attention"] + len(left) == LAYERS + BLOCKS + 1, "FastV's own rows are the last one"
    assert len(left) == 1
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.opset_import[0].version == 23


def test_they_compute_the_same() -> None:
    wanted, model = run(policy_graph("fastv")), fused()
    reference = ReferenceEvaluator(ir.to_proto(model)).run(["actions", "kept"], feeds())
    for found in (run(model), reference):
        np.testing.assert_allclose(found[0], wanted[0], atol=1e-5)
        np.testing.assert_array_equal(found[1], wanted[1])


def test_in_float16_they_compute_the_same_as_far_as_it_goes() -> None:
    wanted, model = run(policy_graph("fastv")), fused()
    lower_to_float16(model, results=["actions"])
    kinds = {(node.op_type, node.outputs[0].dtype) for node in model.graph}
    half, single = ir.DataType.FLOAT16, ir.DataType.FLOAT
    assert {("Attention", half), ("RotaryEmbedding", half), ("RMSNormalization", single)} <= kinds
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    found = run(model)
    error = np.abs(found[0] - wanted[0]).max() / np.abs(wanted[0]).max()
    assert 1e-6 < error < 2e-2
    assert found[0].dtype == np.float32 and len(np.intersect1d(found[1], wanted[1])) >= wanted[1].size - 1


def test_attention_whose_shares_are_read_stays_as_it_is() -> None:
    model = policy_graph("fastv").clone()
    for node in list(model.graph):
        if node.op_type == "Softmax":
            model.graph.outputs.append(node.outputs[0])
            model.graph.insert_after(node, ir.node("Abs", [node.outputs[0]]))
    assert fuse_to_opset23(model)["Attention"] == 0


def test_a_table_that_is_no_rotation_is_not_taken_for_one() -> None:
    model = policy_graph("fastv").clone()
    for node in model.graph:
        if node.op_type == "Neg":
            node.op_type = "Abs"
    assert fuse_to_opset23(model)["RotaryEmbedding"] == 0


@pytest.mark.tensorrt_rtx
def test_tensorrt_rtx_reads_them_and_says_what_it_refuses(tmp_path: Path) -> None:
    model = fused()
    lower_to_float16(model, results=["actions"])
    ir.save(model, tmp_path / "step.onnx")
    assert check_tensorrt_rtx(tmp_path / "step.onnx", ()).layers > 0
    for node in model.graph:
        if node.op_type == "Attention":
            node.attributes["softmax_precision"] = ir.AttrInt64("softmax_precision", int(ir.DataType.FLOAT))
    ir.save(model, tmp_path / "exact.onnx")
    with pytest.raises(
        ReceiptError, match="Setting softmax precision is not supported in TensorRT Attention"
    ):
        check_tensorrt_rtx(tmp_path / "exact.onnx", ())
