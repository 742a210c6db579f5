"""Buffers on a GPU made of host memory, and that every name used is one of NVIDIA's bindings."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from saccade.proto.errors import EngineError
from saccade.runtime.engines.cuda_memory import RUNTIME, CudaBuffer, CudaStream
from tests.runtime.engines.fake_cuda import USED, FakeCuda


def test_every_name_that_is_used_is_one_of_nvidias() -> None:
    runtime = pytest.importorskip(RUNTIME, reason="the package cuda-bindings is not installed")
    assert [name for name in USED if not hasattr(runtime, name)] == []
    assert [name for name in vars(FakeCuda) if name.startswith("cuda") and name not in USED] == []
    for name in ("cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost"):
        assert hasattr(runtime.cudaMemcpyKind, name)
    assert hasattr(runtime.cudaStreamCaptureMode, "cudaStreamCaptureModeThreadLocal")


def test_without_a_driver_the_real_one_says_what_to_do() -> None:
    runtime = pytest.importorskip(RUNTIME, reason="the package cuda-bindings is not installed")
    if runtime.cudaGetDeviceCount()[0] == 0:
        pytest.skip("there is a GPU here")
    with pytest.raises(
        EngineError, match=r"cudaStreamCreateWithFlags to succeed, found cudaError\w+ \(.+\): "
    ):
        CudaStream(runtime)


def test_the_host_side_and_the_tensor_are_copied_when_asked_for() -> None:
    cuda = FakeCuda()
    stream = CudaStream(cuda)  # type: ignore[arg-type]
    buffer = CudaBuffer(stream, "float32", (2, 3))
    assert not buffer.host.any()
    buffer.host[...] = np.arange(6).reshape(2, 3)
    buffer.to_host()  # what the device has is still zero
    assert not buffer.host.any()
    buffer.host[...] = 7
    buffer.to_device()
    buffer.host[...] = 7
    buffer.to_host()
    assert (buffer.host == 7).all()


def test_what_numpy_still_looks_at_stays_when_the_buffer_goes() -> None:
    cuda = FakeCuda()
    stream = CudaStream(cuda)  # type: ignore[arg-type]
    buffer = CudaBuffer(stream, "int64", (4,))
    row = buffer.host[1:]
    del buffer
    gc.collect()
    assert not cuda.device and len(cuda.pinned) == 1
    row[...] = 5
    del row
    gc.collect()
    assert not cuda.pinned


def test_a_capture_that_fails_leaves_the_stream_usable() -> None:
    cuda = FakeCuda()
    stream = CudaStream(cuda)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="cudaErrorStreamCaptureUnsupported"):
        stream.capture(stream.synchronize)
    buffer = CudaBuffer(stream, "bool", (3,))
    again = stream.capture(buffer.to_device)
    buffer.host[...] = True
    again()
    buffer.to_host()
    assert buffer.host.all()
    stream.close()
    stream.close()
    assert cuda.calls.count("destroy stream") == 1
