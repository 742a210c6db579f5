"""Memory, a stream and captured graphs of one CUDA device, by NVIDIA's own bindings and never by torch.

``cuda.bindings.runtime`` is passed in, so that nothing here is loaded where there is no GPU. Everything that is made is
freed when its last reference goes.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import EngineError

RUNTIME = "cuda.bindings.runtime"
"""The module that :class:`CudaStream` is given."""
_REMEDIES = {
    "cudaErrorMemoryAllocation": "the GPU's memory is full: end other programs, or serve fewer profiles",
    "cudaErrorInsufficientDriver": "install a newer NVIDIA driver, or an older `cuda-bindings`",
    "cudaErrorNoDevice": "is a GPU plugged in and allowed (CUDA_VISIBLE_DEVICES)?",
}


class CudaStream:
    """A stream of its own, in whose order copies and graphs run.

    Args:
        runtime: The module ``cuda.bindings.runtime``.

    Attributes:
        handle: The stream's address, as other libraries take it.

    Raises:
        EngineError: There is no GPU, or no driver that is new enough.
    """

    def __init__(self, runtime: ModuleType) -> None:
        self._runtime = runtime
        stream = self.call("cudaStreamCreateWithFlags", runtime.cudaStreamNonBlocking)
        self.handle = int(stream)
        self._close = _later(self, runtime, "cudaStreamDestroy", stream)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the CUDA runtime and return what it returns beside its status.

        Args:
            name: Name of the function, e.g. ``cudaMalloc``.
            *arguments: Its arguments, without those that it writes to.

        Raises:
            EngineError: Its status is not success.
        """
        status, *results = getattr(self._runtime, name)(*arguments)
        if int(status) != 0:
            _, text = self._runtime.cudaGetErrorString(status)
            remedy = _REMEDIES.get(status.name, "see `dmesg` for what the driver says")
            raise EngineError(
                f"expected {name} to succeed, found {status.name} ({text.decode(errors='replace')}): {remedy}."
            )
        return results[0] if results else None

    def synchronize(self) -> None:
        """Wait until everything that was put into the stream is done.

        Raises:
            EngineError: Something in it failed.
        """
        self.call("cudaStreamSynchronize", self.handle)

    def copy(self, to: int, source: int, count: int, kind: str) -> None:
        """Put a copy into the stream.

        Args:
            to: Address to write.
            source: Address to read.
            count: Bytes.
            kind: A member of ``cudaMemcpyKind``, e.g. ``cudaMemcpyHostToDevice``.
        """
        self.call(
            "cudaMemcpyAsync", to, source, count, getattr(self._runtime.cudaMemcpyKind, kind), self.handle
        )

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        """Record what a function puts into the stream, and return what puts all of it there again.

        Args:
            enqueue: Called once; what it enqueues is recorded and not run. It must neither wait nor allocate.

        Raises:
            EngineError: It did what cannot be recorded.
        """
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("cudaStreamBeginCapture", self.handle, mode)
        try:
            enqueue()
        except EngineError:
            self._runtime.cudaStreamEndCapture(self.handle)  # else the stream stays unusable
            raise
        graph = self.call("cudaStreamEndCapture", self.handle)
        try:
            launched = _CapturedGraph(self, self.call("cudaGraphInstantiate", graph, 0))
        finally:
            self.call("cudaGraphDestroy", graph)
        return launched.launch

    def device_memory(self, count: int) -> DeviceMemory:
        """Return new memory of the device.

        Args:
            count: Bytes.
        """
        address = self.call("cudaMalloc", max(count, 1))
        memory = DeviceMemory(int(address), count)
        _later(memory, self._runtime, "cudaFree", int(address))
        return memory

    def host_memory(self, count: int) -> ctypes.Array[ctypes.c_uint8]:
        """Return new memory of the host, pinned so that the device copies it on its own.

        Args:
            count: Bytes.
        """
        address = int(self.call("cudaHostAlloc", max(count, 1), self._runtime.cudaHostAllocDefault))
        memory = (ctypes.c_uint8 * count).from_address(address)
        _later(memory, self._runtime, "cudaFreeHost", address)
        return memory

    def close(self) -> None:
        """Wait for what is under way, and free the stream."""
        if self._close.alive:
            self.synchronize()
            self._close()


class DeviceMemory:
    """Memory of the device.

    Args:
        address: Where it begins, a multiple of 256.
        bytes: Its size.
    """

    def __init__(self, address: int, bytes: int) -> None:  # noqa: A002 - the field's name everywhere
        self.address, self.bytes = address, bytes


class CudaBuffer:
    """A tensor on the device and a pinned host side; nothing is copied between them unless it is asked for.

    Args:
        stream: In whose order it is copied.
        dtype: numpy name of the dtype, e.g. ``float32``.
        shape: Length of each axis.
    """

    def __init__(self, stream: CudaStream, dtype: str, shape: tuple[int, ...]) -> None:
        kind = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        self._stream = stream
        self._memory = stream.device_memory(count)
        self.host: NDArray[Any] = np.frombuffer(memoryview(stream.host_memory(count)), kind).reshape(shape)
        self.host.fill(0)
        self.to_device()
        stream.synchronize()

    @property
    def address(self) -> int:
        """Where the tensor lies on the device."""
        return self._memory.address

    def to_device(self) -> None:
        """Put the copy of ``host`` to the device into the stream."""
        self._stream.copy(
            self._memory.address, self.host.ctypes.data, self._memory.bytes, "cudaMemcpyHostToDevice"
        )

    def to_host(self) -> None:
        """Copy the tensor to ``host`` and wait until it is there."""
        self._stream.copy(
            self.host.ctypes.data, self._memory.address, self._memory.bytes, "cudaMemcpyDeviceToHost"
        )
        self._stream.synchronize()


class _CapturedGraph:
    """A recorded piece of a stream.

    Args:
        stream: Where it runs.
        executable: Its ``cudaGraphExec_t``.
    """

    def __init__(self, stream: CudaStream, executable: Any) -> None:
        self._stream, self._executable = stream, executable
        _later(self, stream._runtime, "cudaGraphExecDestroy", executable)  # noqa: SLF001 - of this file

    def launch(self) -> None:
        """Put it into the stream once more."""
        self._stream.call("cudaGraphLaunch", self._executable, self._stream.handle)


def _later(owner: object, runtime: ModuleType, name: str, handle: Any) -> weakref.finalize[Any, Any]:
    """Free something when its owner goes; at the end of the process the driver does it."""
    finalizer = weakref.finalize(owner, getattr(runtime, name), handle)
    finalizer.atexit = False
    return finalizer
