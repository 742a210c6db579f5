"""The contract of an engine: what executes one graph.

A *backend* is one way to execute graphs on one device. It allocates buffers there and loads graphs as *engines*.
An engine is bound to buffers once and then run without naming tensors, copying them or allocating. The reusable
conformance suite is ``tests/contracts/engine.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import EngineError

Run = Callable[[], None]
"""Executes a bound graph once; raises :class:`saccade.proto.errors.EngineError` if the engine fails."""


@dataclass(frozen=True)
class PortSpec:
    """An input or output of a graph: numpy dtype name and static shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Buffer(Protocol):
    """A tensor on the engine's device, with a host side to fill or read.

    Attributes:
        host: Writable array, always the same memory. On a CPU it *is* the tensor.
    """

    host: NDArray[Any]

    def to_device(self) -> None:
        """Make what was written to ``host`` visible to the engine."""

    def to_host(self) -> None:
        """Make what the engine wrote visible in ``host``."""


class Engine(Protocol):
    """One loaded graph.

    Attributes:
        inputs: Ports to fill before a run; known before the first one.
        outputs: Ports to read after a run; known before the first one.
    """

    inputs: tuple[PortSpec, ...]
    outputs: tuple[PortSpec, ...]

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Run:
        """Tie every port to a buffer and return what runs the graph on them.

        May be called several times; each result stays valid until the backend is closed, and keeps its buffers.

        Args:
            inputs: Buffers by the name of the input port.
            outputs: Buffers by the name of the output port.

        Raises:
            EngineError: A port without a buffer, a buffer without a port, or another dtype or shape.
        """
        ...


class Backend(Protocol):
    """One way to execute graphs on one device; a context manager that frees what it made.

    Attributes:
        name: Stable name of the backend, e.g. ``ort-cpu``.
    """

    name: str

    def allocate(self, dtype: str, shape: tuple[int, ...]) -> Buffer:
        """Return a new buffer filled with zeros.

        Args:
            dtype: numpy name of the dtype, e.g. ``float32``.
            shape: Length of each axis.
        """
        ...

    def load(self, graphs: Iterable[str], files: Mapping[str, NDArray[np.uint8]]) -> dict[str, Engine]:
        """Load the graphs of one bundle, all at once: they may share weights.

        Args:
            graphs: Names of the ONNX files.
            files: Content of all files by name, uint8 ``(bytes,)``: the graphs, and the weights that they point to.
                Nothing else is read.

        Returns:
            Engines by the name of the graph.

        Raises:
            EngineError: A graph cannot be loaded, or its shapes are not static.
        """
        ...

    def __enter__(self) -> Backend: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def check_ports(ports: tuple[PortSpec, ...], buffers: Mapping[str, Buffer]) -> list[tuple[PortSpec, Buffer]]:
    """Pair every port with its buffer; engines call this in :meth:`Engine.bind`.

    Args:
        ports: Inputs or outputs of a graph.
        buffers: Buffers by the name of the port.

    Raises:
        EngineError: A port without a buffer, a buffer without a port, or another dtype or shape.
    """
    names = {port.name for port in ports}
    if names != set(buffers):
        raise EngineError(f"expected buffers for {sorted(names)}, found {sorted(buffers)}.")
    pairs = [(port, buffers[port.name]) for port in ports]
    for port, buffer in pairs:
        if (str(buffer.host.dtype), buffer.host.shape) != (port.dtype, port.shape):
            raise EngineError(
                f"{port.name}: expected {port.dtype}{list(port.shape)}, "
                f"found a buffer of {buffer.host.dtype}{list(buffer.host.shape)}."
            )
    return pairs
