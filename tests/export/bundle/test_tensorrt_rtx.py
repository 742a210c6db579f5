"""TensorRT-RTX, the real one, builds what we export, and its refusals come out in words.

The graph of every policy is read in ``tests/export/steps/test_policy_graphs.py``, where it is made.

On Linux x86_64 ``make test`` installs it and a missing package is a failure; elsewhere these tests are skipped unless
it is there, and the summary says so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from saccade.export.bundle.tensorrt_rtx import TARGETS, check_tensorrt_rtx, require_tensorrt_rtx
from saccade.export.lowering.greedy_rolling import roll_greedy_loops
from saccade.export.scorer.pipeline import ScorerRequest, export_scorer
from saccade.proto.errors import ReceiptError
from tests.export.policy_graphs import policy_graph

BUNDLE = Path(__file__).parents[3] / "sim/saccade_mini/bundle"


@pytest.mark.tensorrt_rtx
@pytest.mark.parametrize("name", ["divprune", "todre"])
def test_rolled_up_greedy_loops_build_too(name: str, tmp_path: Path) -> None:
    unrolled, graph = tmp_path / "unrolled.onnx", tmp_path / "rolled.onnx"
    ir.save(policy_graph(name), unrolled)
    model = ir.load(unrolled)
    assert roll_greedy_loops(model) > 0
    ir.save(model, graph)
    assert set(check_tensorrt_rtx(graph, ["SM89"]).plans) == {"SM89"}


@pytest.mark.tensorrt_rtx
def test_a_view_scorer_builds_too(checkpoint_path: Path, tmp_path: Path) -> None:
    request = ScorerRequest(checkpoint=checkpoint_path, out=tmp_path / "scorer")
    export_scorer(request, lambda what: None)
    (graph,) = (tmp_path / "scorer").glob("graphs/*.onnx")
    assert set(check_tensorrt_rtx(graph, ["SM89"]).plans) == {"SM89"}


@pytest.mark.tensorrt_rtx
@pytest.mark.parametrize("graph", sorted((BUNDLE / "graphs").glob("*.onnx")), ids=lambda path: path.stem)
def test_the_bundled_model_builds_for_every_card(graph: Path) -> None:
    receipt = check_tensorrt_rtx(graph)
    weights = (BUNDLE / "graphs/weights.bin").stat().st_size
    assert receipt.version == require_tensorrt_rtx()
    assert tuple(receipt.plans) == TARGETS
    assert all(plan.bytes > weights for plan in receipt.plans.values())


@pytest.mark.tensorrt_rtx
def test_every_refused_node_is_named_with_its_operator(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="fine"),
        helper.make_node("Unique", ["r"], ["y"], name="distinct_tokens"),
        helper.make_node("Det", ["x"], ["d"], name="volume"),
    ]
    graph = _graph(tmp_path, nodes, {"y": [None], "d": []}, shape=[4, 4])
    with pytest.raises(ReceiptError, match=r"refused\.onnx: .* its parser refused:") as refused:
        check_tensorrt_rtx(graph)
    assert "node 1 'distinct_tokens', operator Unique: it has no such operator" in refused.value.message
    assert "node 2 'volume', operator Det: it has no such operator" in refused.value.message
    assert "Relu" not in refused.value.message


@pytest.mark.tensorrt_rtx
def test_a_shape_that_depends_on_data_is_refused_with_the_reason(tmp_path: Path) -> None:
    node = helper.make_node("NonZero", ["x"], ["y"], name="kept")
    graph = _graph(tmp_path, [node], {"y": [2, None]}, dtype=TensorProto.INT64)
    with pytest.raises(ReceiptError, match=r"node 0 'kept', operator NonZero: .*NonZero plugin"):
        check_tensorrt_rtx(graph)


@pytest.mark.tensorrt_rtx
def test_what_only_the_builder_refuses_is_named_too(tmp_path: Path) -> None:
    node = helper.make_node("TopK", ["x", "k"], ["y", "i"], name="choose")
    graph = _graph(tmp_path, [node], {"y": [1, 9]}, k=np.array([9]))
    with pytest.raises(
        ReceiptError, match=r"builds for SM86, its builder refused:\n .*choose.*smaller than K"
    ):
        check_tensorrt_rtx(graph)
    # What was refused before leaves no trace in the next check.
    fine = _graph(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], {"y": [1, 8]})
    assert set(check_tensorrt_rtx(fine, ["SM89"]).plans) == {"SM89"}


@pytest.mark.tensorrt_rtx
def test_what_is_no_graph_at_all_is_refused(tmp_path: Path) -> None:
    graph = tmp_path / "broken.onnx"
    graph.write_bytes(b"not a graph")
    with pytest.raises(ReceiptError, match=r"(?s)broken\.onnx: .*the whole file: .*Failed to parse"):
        check_tensorrt_rtx(graph)


@pytest.mark.tensorrt_rtx
def test_a_card_that_it_cannot_build_for_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReceiptError, match=r"cannot build for \['SM87'\]; it knows .*SM86"):
        check_tensorrt_rtx(tmp_path / "any.onnx", ["SM86", "SM87"])


def test_without_it_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", None)
    with pytest.raises(ReceiptError, match=r"pip install 'saccade-vla\[tensorrt-rtx\]'"):
        require_tensorrt_rtx()
    with pytest.raises(ReceiptError, match=r"pip install 'saccade-vla\[tensorrt-rtx\]'"):
        check_tensorrt_rtx(tmp_path / "any.onnx")


def _graph(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    outputs: dict[str, list[int | None]],
    shape: Sequence[int] = (1, 8),
    dtype: int = TensorProto.FLOAT,
    **constants: np.ndarray,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, dtype, dims) for name, dims in outputs.items()],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = folder / "refused.onnx"
    onnx.save(model, path)
    return path
