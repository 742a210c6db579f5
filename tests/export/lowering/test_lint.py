"""What the exported graphs look like: portable, static, lean, nothing of the build machine in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper

from saccade.export.control.pipeline import ExportReport
from saccade.export.lowering.capture import GraphPorts, to_graph
from saccade.export.lowering.lint import lint
from saccade.export.lowering.shared_weights import INLINE_BYTES, WEIGHTS_NAME, SharedWeights
from saccade.proto.errors import ReceiptError

Exported = tuple[Path, ExportReport]


def _graphs(bundle: Path) -> list[Path]:
    return sorted((bundle / "graphs").glob("*.onnx"))


def test_graphs_pass_the_checker_and_the_lint(exported: Exported) -> None:
    for path in _graphs(exported[0]):
        onnx.checker.check_model(str(path), full_check=True)
        receipt = lint(ir.load(path), path.name)
        assert receipt.opset == 20
        assert "GatherElements" not in receipt.ops or receipt.ops["GatherElements"] < 3


def test_nothing_of_the_build_machine_is_in_the_files(exported: Exported) -> None:
    for path in exported[0].rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for trace in (b"/work/", b"site-packages", b".py", str(Path.home()).encode() + b"/"):
                assert trace not in content, f"{path.name} names {trace!r}"


def test_profiles_share_one_weights_file(exported: Exported) -> None:
    bundle = exported[0]
    parameters = sum(
        value.const_value.nbytes
        for value in ir.load(_graphs(bundle)[0]).graph.initializers.values()
        if value.const_value is not None
    )
    assert (bundle / "graphs" / WEIGHTS_NAME).stat().st_size < 1.5 * parameters + 4096
    assert all(path.stat().st_size < 150_000 for path in _graphs(bundle))


def test_equal_tensors_are_stored_once(tmp_path: Path) -> None:
    big = np.arange(INLINE_BYTES, dtype=np.float32)
    with SharedWeights(tmp_path) as weights:
        models = [
            _model_with({"first": big, "other": big + 1}),
            _model_with({"renamed": big, "small": big[:2]}),
        ]
        for number, model in enumerate(models):
            weights.adopt(model)
            ir.save(model, tmp_path / f"{number}.onnx")
    assert (tmp_path / WEIGHTS_NAME).stat().st_size == 2 * big.nbytes
    reread = ir.load(tmp_path / "1.onnx").graph.initializers["renamed"].const_value
    assert reread is not None
    np.testing.assert_array_equal(reread.numpy(), big)


def _model_with(tensors: dict[str, np.ndarray]) -> ir.Model:
    initialisers = [
        ir.Value(
            name=name,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(ir.DataType.FLOAT),
            const_value=ir.tensor(array, name=name),
        )
        for name, array in tensors.items()
    ]
    nodes = [ir.node("Relu", [value]) for value in initialisers]
    graph = ir.Graph(
        [],
        [node.outputs[0] for node in nodes],
        nodes=nodes,
        initializers=initialisers,
        opset_imports={"": 20},
    )
    return ir.Model(graph, ir_version=10)


def _linted(
    node: onnx.NodeProto, outputs: dict[str, tuple[int, list[int | str]]], **constants: np.ndarray
) -> None:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4000])],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid(node.domain, 20)]
    )
    lint(ir.serde.deserialize_model(model), "g")


@pytest.mark.parametrize(
    ("op", "message"),
    [
        ("NonZero", "its output size depends on data"),
        ("Shape", "every shape is static; fold it"),
        ("Hardmax", "not an operator that TensorRT 10.3 reads"),
    ],
)
def test_an_operator_that_tensorrt_refuses_is_found(op: str, message: str) -> None:
    with pytest.raises(ReceiptError, match=message):
        _linted(helper.make_node(op, ["x"], ["y"]), {"y": (TensorProto.FLOAT, [1, 4000])})


def test_the_module_that_made_a_refused_node_is_named() -> None:
    class Volume(torch.nn.Module):
        def forward(self, edges: torch.Tensor) -> torch.Tensor:
            return torch.linalg.det(edges)

    solid = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Tanh(), Volume()), torch.nn.Tanh())
    graph = to_graph(solid, (torch.eye(3)[None],), GraphPorts(("edges",), ("volume",)), "solid")
    with pytest.raises(ReceiptError, match=r"Det '.*' of module '0\.1': not an operator") as refused:
        lint(graph, "solid.onnx")
    assert "Tanh" not in refused.value.message
    assert b"name_scopes" not in ir.serde.serialize_model(graph).SerializeToString()


def test_a_private_domain_is_found() -> None:
    node = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")
    with pytest.raises(ReceiptError, match="expected the standard domain"):
        _linted(node, {"y": (TensorProto.FLOAT, [1, 4000])})


def test_a_dynamic_dimension_is_found() -> None:
    with pytest.raises(ReceiptError, match="expected a static one"):
        _linted(helper.make_node("Relu", ["x"], ["y"]), {"y": (TensorProto.FLOAT, [1, "tokens"])})


def test_float64_is_found() -> None:
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.DOUBLE)
    with pytest.raises(ReceiptError, match="is float64; expected float32"):
        _linted(node, {"y": (TensorProto.DOUBLE, [1, 4000])})


@pytest.mark.parametrize(
    ("k", "is_sorted", "message"), [(3841, 1, "expected at most 3840"), (4, 0, "sorted=0; expected 1")]
)
def test_a_top_k_that_tensorrt_refuses_is_found(k: int, is_sorted: int, message: str) -> None:
    node = helper.make_node("TopK", ["x", "k"], ["y", "i"], sorted=is_sorted)
    outputs = {"y": (TensorProto.FLOAT, [1, k]), "i": (TensorProto.INT64, [1, k])}
    with pytest.raises(ReceiptError, match=message):
        _linted(node, outputs, k=np.array([k]))


def test_float64_weights_are_found() -> None:
    node = helper.make_node("Cast", ["w"], ["y"], to=TensorProto.FLOAT)
    with pytest.raises(ReceiptError, match="weight 'w' is float64; expected float32"):
        _linted(node, {"y": (TensorProto.FLOAT, [1, 4000])}, w=np.zeros((1, 4000)))


def test_axes_that_are_computed_at_run_time_are_found() -> None:
    node = helper.make_node("ReduceSum", ["x", "x"], ["y"])
    with pytest.raises(ReceiptError, match=r"ReduceSum .* a shape parameter is computed at run time"):
        _linted(node, {"y": (TensorProto.FLOAT, [1, 1])})


def test_uint8_within_the_graph_is_found() -> None:
    node = helper.make_node("Cast", ["w"], ["y"], to=TensorProto.FLOAT)
    with pytest.raises(ReceiptError, match="uint8 only at the graph's entry"):
        _linted(node, {"y": (TensorProto.FLOAT, [1, 4000])}, w=np.zeros((1, 4000), np.uint8))
