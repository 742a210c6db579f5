"""ONNX Runtime's build for NVIDIA GPUs, where it is installed; on a GPU the contract is in ``test_registry.py``."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort
import pytest

from saccade.proto.errors import EngineError
from saccade.runtime.engines.cuda_wheel import why_not_ort_cuda
from saccade.runtime.engines.ort_cuda import OrtCudaBackend
from saccade.runtime.engines.registry import open_backend, why_not
from tests.contracts.engine import load, write_graph

HAS_CUDA = "CUDAExecutionProvider" in ort.get_available_providers()


def test_a_build_without_cuda_is_refused_with_what_to_install() -> None:
    if HAS_CUDA:
        assert "no CUDA:" not in (why_not_ort_cuda() or "")
        return
    with pytest.raises(EngineError, match=r"has no CUDA: `pip uninstall onnxruntime`, then .*ort-cuda"):
        open_backend("ort-cuda")


def test_without_a_gpu_nothing_runs_on_the_cpu_in_its_place(tmp_path: Path) -> None:
    if not HAS_CUDA:
        pytest.skip("NOT RUN: the extra `ort-cuda` is not installed")
    if (reason := why_not("ort-cuda")) is None:
        pytest.skip("there is a GPU here")
    assert "CUDA driver" in reason
    with OrtCudaBackend(threads=1) as backend:  # as if nobody had asked
        with pytest.raises(EngineError, match=r"room for float32.* on the GPU, found"):
            backend.allocate("float32", (2,))
        with pytest.raises(EngineError, match="to load in ONNX Runtime, found"):
            load(backend, write_graph(tmp_path))


def test_weights_cannot_be_shared() -> None:
    with pytest.raises(EngineError, match="found --lean"):
        OrtCudaBackend(prepack=False)
