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


def test_each_engine_with_plans_has_its_own_library() -> None:
    assert (TensorRtBackend.name, TensorRtRtxBackend.name) == PLAN_ENGINES
    assert TensorRtBackend.is_bound_to_gpu and not TensorRtRtxBackend.is_bound_to_gpu
