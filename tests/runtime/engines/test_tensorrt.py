"""The engine contract over a TensorRT that computes on the host, what is asked of the GPU and in which order.

On a GPU the contract is tested in ``test_registry.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade.proto.errors import EngineError, PlanError
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.base import Backend
from saccade.runtime.engines.cuda_driver import Gpu
from saccade.runtime.engines.plan_cache import PlanCache
from saccade.runtime.engines.registry import PLAN_ENGINES
from saccade.runtime.engines.tensorrt import TensorRtBackend, TensorRtRtxBackend
from saccade.runtime.engines.tensorrt_build import build_plan
from saccade.runtime.program import ProgramExecutor
from tests.contracts.engine import EngineContract, buffers, fill, load, weights_files, write_graph
from tests.runtime.engines.fake_cuda import FakeCuda
from tests.runtime.engines.fake_tensorrt import ARENA_BYTES, FakeTensorRt

ORIN = Gpu("Orin", (8, 7), 12060)


def backend_on(cuda: FakeCuda, plans: Path, *, takes_weights: bool = True, **changes: Any) -> TensorRtBackend:
    options = {"library": FakeTensorRt(cuda, takes_weights=takes_weights), "builds_plans": True, "gpu": ORIN}
    return TensorRtBackend(runtime=cuda, plans=plans, **{**options, **changes})  # type: ignore[arg-type]


class TestTensorRtOnTheHost(EngineContract):
    @pytest.fixture(autouse=True, params=[True, False], ids=["weights-from-memory", "weights-from-files"])
    def _plans(self, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        self._options = {"plans": tmp_path / "plans", "takes_weights": request.param}

    def make_backend(self) -> Backend:
        return backend_on(FakeCuda(), **self._options)


def test_a_run_is_enqueued_once_captured_and_then_launched(tmp_path: Path) -> None:
    cuda = FakeCuda()
    with backend_on(cuda, tmp_path / "plans") as backend:
        inputs, outputs = buffers(backend)
        engine = load(backend, write_graph(tmp_path))
        fill(inputs, 0)
        cuda.calls.clear()
        run = engine.bind(inputs, outputs)
        assert cuda.calls == ["enqueue", "capture", "enqueue"]
        cuda.calls.clear()
        run()
        run()
        assert cuda.calls == ["launch", "launch"]  # nothing passes through the host


def test_graphs_of_one_load_share_one_arena_and_everything_is_freed(tmp_path: Path) -> None:
    cuda = FakeCuda()
    with backend_on(cuda, tmp_path / "plans") as backend:
        engines = backend.load(
            ["graphs/a.onnx", "graphs/b.onnx"], weights_files("MatMul", np.ones((64, 16), np.float32))
        )
        assert [len(memory) for memory in cuda.device.values()] == [ARENA_BYTES]
        runs = []
        for engine in engines.values():
            asked, answer = (
                backend.allocate(port.dtype, port.shape) for port in (*engine.inputs, *engine.outputs)
            )
            runs.append(engine.bind({"asked": asked}, {"answer": answer}))
        assert len(cuda.device) == 1 + 4
        del engines, engine, asked, answer, runs
    assert not cuda.device and not cuda.pinned
    assert cuda.calls.count("destroy graph") == 2 and cuda.calls[-1] == "destroy stream"


def test_a_gpu_without_room_is_said(tmp_path: Path) -> None:
    with (
        backend_on(FakeCuda(room=100), tmp_path) as backend,
        pytest.raises(
            EngineError, match=r"cudaMalloc to succeed, found cudaErrorMemoryAllocation .*memory is full"
        ),
    ):
        backend.allocate("float32", (64,))


def test_a_bundle_is_refused_until_it_is_built_and_then_computes_what_it_should(
    tiny: Path, program: ProgramExecutor, tmp_path: Path
) -> None:
    bundle = Bundle.open(tiny)
    cuda = FakeCuda()
    with backend_on(cuda, tmp_path, builds_plans=False) as backend:
        with pytest.raises(
            PlanError, match=r"for Orin SM87 in .*, found none: run `saccade build BUNDLE --engine te"
        ):
            ProgramExecutor(bundle, backend)
        library = FakeTensorRt(cuda)
        plans = backend.plans_for(library, PlanCache(tmp_path), ORIN.target, ORIN)  # type: ignore[arg-type]
        with PlanCache(tmp_path).building():
            keys = [plans.build(graph, bundle.files) for graph in bundle.manifest.graphs]
        assert library.timings_given[0] == b"" and set(library.timings_given[1:]) <= {b"measured"}
        built = ProgramExecutor(bundle, backend)
        random = np.random.default_rng(0)
        for name, values in program.inputs.items():
            values[...] = random.integers(0, 2, values.shape)
            built.inputs[name][...] = values
        for _ in range(3):
            for profile in bundle.manifest.profiles:
                expected = program.step(profile.name, {})
                found = built.step(profile.name, {})
                for name, values in expected.items():
                    np.testing.assert_allclose(found[name], values, rtol=1e-6, err_msg=name)
                program.commit()
                built.commit()
    assert {key.compute_capability for key in keys} == {"SM87"}
    for changes, difference in (
        ({"gpu": Gpu("Orin", (8, 7), 13020)}, "only one of driver 12060, not 13020"),
        ({"gpu": Gpu("Thor", (11, 0), 12060)}, "compute_capability SM87, not SM110; gpu Orin, not Thor"),
    ):
        with (
            backend_on(cuda, tmp_path, builds_plans=False, **changes) as other,
            pytest.raises(PlanError, match=difference),
        ):
            ProgramExecutor(bundle, other)


def test_weights_cannot_be_shared() -> None:
    with pytest.raises(EngineError, match="found --lean"):
        TensorRtBackend(prepack=False)


def test_tensorrt_rtx_takes_weights_from_memory_and_from_files_alike(tmp_path: Path) -> None:
    """The real one, ahead of time, without a GPU; the plans have the same size whatever the way."""
    library = pytest.importorskip("tensorrt_rtx_bindings", reason="the extra `tensorrt-rtx` is not installed")
    weights = np.random.default_rng(0).standard_normal((64, 16)).astype(np.float32)
    files = weights_files("MatMul", weights)
    sizes = set()
    for module in (library, _WithAnOldParser(library)):
        built = build_plan(module, "graphs/a.onnx", files, target="SM89", timings=b"", scratch=tmp_path)  # type: ignore[arg-type]
        sizes.add(built.plan.nbytes)
        assert built.timings is None
        assert weights.tobytes()[:64] in built.plan.tobytes() or built.plan.nbytes > weights.nbytes
    assert len(sizes) == 1 and not list(tmp_path.iterdir())
    with pytest.raises(EngineError, match=r"\(SM75, .*\), found SM87: choose another --engine"):
        build_plan(library, "graphs/a.onnx", files, target="SM87", timings=b"", scratch=tmp_path)


def test_every_name_that_is_used_is_one_of_tensorrt_rtx() -> None:
    library = pytest.importorskip("tensorrt_rtx_bindings", reason="the extra `tensorrt-rtx` is not installed")
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


def test_each_engine_with_plans_has_its_own_library() -> None:
    assert (TensorRtBackend.name, TensorRtRtxBackend.name) == PLAN_ENGINES
    assert TensorRtBackend.is_bound_to_gpu and not TensorRtRtxBackend.is_bound_to_gpu


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
