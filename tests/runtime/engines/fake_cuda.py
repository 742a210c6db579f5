"""A GPU made of host memory: ``cuda.bindings.runtime`` as far as we use it, with its order of things kept."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any

USED = (
    *(
        "cudaError_t",
        "cudaFree",
        "cudaFreeHost",
        "cudaGetErrorString",
        "cudaGraphDestroy",
        "cudaGraphExecDestroy",
    ),
    *("cudaGraphInstantiate", "cudaGraphLaunch", "cudaHostAlloc", "cudaHostAllocDefault", "cudaMalloc"),
    *("cudaMemcpyAsync", "cudaMemcpyKind", "cudaStreamBeginCapture", "cudaStreamCaptureMode"),
    *("cudaStreamCreateWithFlags", "cudaStreamDestroy", "cudaStreamEndCapture", "cudaStreamNonBlocking"),
    "cudaStreamSynchronize",
)
"""Every name that we take from ``cuda.bindings.runtime``."""


class Status(IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorStreamCaptureUnsupported = 900


class CopyKind(Enum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class FakeCuda:
    """Memory, one stream and captured graphs; what is put into the stream runs when it is waited for.

    Args:
        room: Bytes of the device.
    """

    cudaMemcpyKind = CopyKind
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaStreamNonBlocking, cudaHostAllocDefault = 1, 0

    def __init__(self, room: int = 1 << 24) -> None:
        self.room = room
        self.calls: list[str] = []
        self.device: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.waiting: list[Callable[[], None]] = []
        self.captured: list[Callable[[], None]] | None = None

    def put(self, what: str, work: Callable[[], None]) -> None:
        """Put work into the stream, or into the graph that is being captured."""
        self.calls.append(what)
        (self.waiting if self.captured is None else self.captured).append(work)

    def cudaGetErrorString(self, status: Status) -> tuple[Status, bytes]:
        return Status.cudaSuccess, status.name.encode()

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Status, int]:
        assert flags == self.cudaStreamNonBlocking  # the default stream cannot be captured
        return Status.cudaSuccess, 7

    def cudaStreamDestroy(self, stream: int) -> tuple[Status]:
        self.calls.append("destroy stream")
        return (Status.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Status]:
        if self.captured is not None:
            return (Status.cudaErrorStreamCaptureUnsupported,)
        waiting, self.waiting = self.waiting, []
        for work in waiting:
            work()
        return (Status.cudaSuccess,)

    def cudaMalloc(self, count: int) -> tuple[Status, int | None]:
        if count + sum(map(len, self.device.values())) > self.room:
            return Status.cudaErrorMemoryAllocation, None
        return Status.cudaSuccess, _keep(self.device, count)

    def cudaHostAlloc(self, count: int, flags: int) -> tuple[Status, int]:
        return Status.cudaSuccess, _keep(self.pinned, count)

    def cudaFree(self, address: int) -> tuple[Status]:
        del self.device[address]
        return (Status.cudaSuccess,)

    def cudaFreeHost(self, address: int) -> tuple[Status]:
        del self.pinned[address]
        return (Status.cudaSuccess,)

    def cudaMemcpyAsync(self, to: int, source: int, count: int, kind: CopyKind, stream: int) -> tuple[Status]:
        ends = (
            (self.device, self.pinned)
            if kind is CopyKind.cudaMemcpyHostToDevice
            else (self.pinned, self.device)
        )
        assert all(end in places for end, places in zip((to, source), ends, strict=True))
        self.put(kind.name, lambda: ctypes.memmove(to, source, count) and None)
        return (Status.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[Status]:
        self.calls.append("capture")
        self.captured = []
        return (Status.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Status, Any]:
        captured, self.captured = self.captured, None
        return Status.cudaSuccess, captured

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[Status, Any]:
        return Status.cudaSuccess, tuple(graph)

    def cudaGraphDestroy(self, graph: Any) -> tuple[Status]:
        return (Status.cudaSuccess,)

    def cudaGraphExecDestroy(self, executable: Any) -> tuple[Status]:
        self.calls.append("destroy graph")
        return (Status.cudaSuccess,)

    def cudaGraphLaunch(self, executable: Any, stream: int) -> tuple[Status]:
        self.put("launch", lambda: [work() for work in executable] and None)
        return (Status.cudaSuccess,)


FakeCuda.cudaError_t = Status  # type: ignore[attr-defined]


def _keep(places: dict[int, Any], count: int) -> int:
    memory = (ctypes.c_uint8 * count)(*([0xAB] * min(count, 64)))
    places[ctypes.addressof(memory)] = memory
    return ctypes.addressof(memory)
