"""The real TensorRT-RTX builds what lies in memory, ahead of time, and every name that we use is one of its names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("tensorrt_rtx_bindings", reason="the extra `tensorrt-rtx` is not installed")

import tensorrt_rtx_bindings as library

from saccade.proto.errors import EngineError
from saccade.runtime.engines.tensorrt_build import build_plan
from tests.contracts.engine import weights_files


def test_weights_are_taken_from_memory_and_from_files_alike(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((64, 16)).astype(np.float32)
    files = weights_files("MatMul", weights)
    sizes = set()
    for module in (library, _WithAnOldParser(library)):
        built = build_plan(module, "graphs/a.onnx", files, target="SM89", timings=b"", scratch=tmp_path)  # type: ignore[arg-type]
        sizes.add(built.plan.nbytes)
        assert built.timings is None
        assert built.plan.nbytes > weights.nbytes
    assert len(sizes) == 1 and not list(tmp_path.iterdir())
    with pytest.raises(EngineError, match=r"\(SM75, .*\), found SM87: choose another --engine"):
        build_plan(library, "graphs/a.onnx", files, target="SM87", timings=b"", scratch=tmp_path)


def test_every_name_that_is_used_is_there() -> None:
    used = {
        "Builder": "create_network create_builder_config build_serialized_network",
        "IBuilderConfig": "create_timing_cache set_timing_cache num_compute_capabilities set_compute_capability",
        "OnnxParser": "parse parse_from_file load_model_proto load_initializer parse_model_proto num_errors get_error",
        "ParserError": "desc node node_name node_operator",
        "INetworkDefinition": "num_inputs get_input",
        "ITimingCache": "serialize",
        "Runtime": "deserialize_cuda_engine",
        "ICudaEngine": "num_io_tensors get_tensor_name get_tensor_mode get_tensor_shape get_tensor_dtype "
        "device_memory_size_v2 create_execution_context",
        "IExecutionContext": "set_device_memory set_tensor_address execute_async_v3 is_stream_capturable",
        "ILogger": "Severity log",
        "NetworkDefinitionCreationFlag": "STRONGLY_TYPED",
        "ExecutionContextAllocationStrategy": "USER_MANAGED",
        "TensorIOMode": "INPUT OUTPUT",
        "DataType": "FLOAT HALF INT8 INT32 INT64 BOOL UINT8",
    }
    missing = [
        f"{kind}.{name}"
        for kind, names in used.items()
        for name in names.split()
        if not hasattr(getattr(library, kind), name)
    ]
    assert missing == []
    assert library.__version__


def test_what_is_refused_is_named_with_the_reason(tmp_path: Path) -> None:
    for content, reason in (
        (
            graph_of(helper.make_node("Unique", ["x"], ["y"], name="distinct")),
            "'distinct', operator Unique: it has no",
        ),
        (
            graph_of(helper.make_node("TopK", ["x", "k"], ["y", "i"], name="choose")),
            r"builder refused: .*smaller than K",
        ),
    ):
        with pytest.raises(EngineError, match=reason):
            build_plan(library, "g.onnx", {"g.onnx": content}, target="SM89", timings=b"", scratch=tmp_path)


def graph_of(node: onnx.NodeProto) -> np.ndarray[Any, Any]:
    """Return an ONNX file of one node over ``x``, float32 ``(1, 8)``; ``k`` is 9."""
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([9]), "k")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return np.frombuffer(model.SerializeToString(), np.uint8)


class _WithAnOldParser:
    """A real library, whose parser reads weights from files alone."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self.__name__, self.__version__ = library.__name__, library.__version__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)

    def OnnxParser(self, network: Any, logger: Any) -> Any:  # noqa: N802 - NVIDIA's name
        parser = self._library.OnnxParser(network, logger)
        names = ("parse", "parse_from_file", "num_errors", "get_error")
        return type("OldParser", (), {name: getattr(parser, name) for name in names} | {"kept": parser})
