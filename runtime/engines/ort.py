"""ONNX Runtime on the CPU; the only file that imports ``onnxruntime``.

Buffers are numpy arrays that ONNX Runtime reads and writes in place, so nothing is copied on the way in or out.
Threads do not spin between steps: a robot's other programs need the cores.

Weights. By default each graph keeps its own copy, re-ordered for speed ("prepacked"). With ``prepack=False`` all
graphs read the one memory-mapped weights file: memory of one copy, slower matrix products. Measured with four
profiles over 96 MB of weights on 2 x86 cores: 418 MB private against 34 MB private + 96 MB shared; 155 / 113 / 77
/ 61 ms a step against 220 / 165 / 114 / 88.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from saccade.proto.errors import EngineError
from saccade.runtime.engines.base import Buffer, PortSpec, Run, check_ports

_DTYPES = {
    "tensor(bool)": "bool",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}
_QUIET = 3  # errors only; warnings about constant folding are of no use to an operator
_SILENT = 4  # what goes wrong in a run is raised


class OrtBuffer:
    """Memory that numpy and ONNX Runtime share.

    Args:
        dtype: numpy name of the dtype, e.g. ``float32``.
        shape: Length of each axis.
    """

    def __init__(self, dtype: str, shape: tuple[int, ...]) -> None:
        self.host: NDArray[Any] = np.zeros(shape, dtype)
        self.value = ort.OrtValue.ortvalue_from_numpy(self.host)

    def to_device(self) -> None:
        """Nothing to do: the host side is the tensor."""

    def to_host(self) -> None:
        """Nothing to do: the host side is the tensor."""


class OrtEngine:
    """One graph loaded by ONNX Runtime.

    Args:
        graph: Path of the ONNX file.
        options: How sessions run: threads, memory.
        run_options: Shared by all runs of one backend, so that one flag interrupts them.
    """

    def __init__(self, graph: Path, options: ort.SessionOptions, run_options: ort.RunOptions) -> None:
        self._run_options = run_options
        try:
            self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise EngineError(f"expected {graph.name} to load in ONNX Runtime, found: {error}") from error
        self.inputs = tuple(_port(node, graph) for node in self._session.get_inputs())
        self.outputs = tuple(_port(node, graph) for node in self._session.get_outputs())

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Run:
        """See :meth:`saccade.runtime.engines.base.Engine.bind`."""
        binding = self._session.io_binding()
        for port, buffer in check_ports(self.inputs, inputs):
            binding.bind_ortvalue_input(port.name, _value(buffer))
        for port, buffer in check_ports(self.outputs, outputs):
            binding.bind_ortvalue_output(port.name, _value(buffer))
        return _bound_run(self._session, binding, self._run_options)


class OrtBackend:
    """The ``ort-cpu`` backend.

    Args:
        threads: Threads of one graph; 0 lets ONNX Runtime take one for each core.
        prepack: Whether each graph keeps a re-ordered copy of its weights: memory for speed, see the module docstring.
    """

    name = "ort-cpu"

    def __init__(self, *, threads: int = 0, prepack: bool = True) -> None:
        self._options = ort.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.log_severity_level = _QUIET
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._options.add_session_config_entry("session.disable_prepacking", "0" if prepack else "1")
        self._run_options = ort.RunOptions()
        self._run_options.log_severity_level = _SILENT

    def allocate(self, dtype: str, shape: tuple[int, ...]) -> OrtBuffer:
        """See :meth:`saccade.runtime.engines.base.Backend.allocate`."""
        return OrtBuffer(dtype, shape)

    def load(self, graph: Path) -> OrtEngine:
        """See :meth:`saccade.runtime.engines.base.Backend.load`."""
        return OrtEngine(graph, self._options, self._run_options)

    def interrupt(self) -> None:
        """End the runs of every graph of this backend at their next node, from another thread.

        They raise :class:`saccade.proto.errors.EngineError`, and so does every later run until :meth:`resume`.
        """
        self._run_options.terminate = True

    def resume(self) -> None:
        """Let graphs run again."""
        self._run_options.terminate = False

    def __enter__(self) -> OrtBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to free by hand: sessions and buffers go with their last reference."""


def _bound_run(
    session: ort.InferenceSession, binding: ort.IOBinding, run_options: ort.RunOptions
) -> Callable[[], None]:
    def run() -> None:
        try:
            session.run_with_iobinding(binding, run_options)
        except Exception as error:
            raise EngineError(f"expected ONNX Runtime to run the graph, found: {error}") from error

    return run


def _value(buffer: Buffer) -> ort.OrtValue:
    if not isinstance(buffer, OrtBuffer):
        raise EngineError(f"expected a buffer that ort-cpu allocated, found {type(buffer).__name__}.")
    return buffer.value


def _port(node: Any, graph: Path) -> PortSpec:
    dtype = _DTYPES.get(node.type)
    if dtype is None or not all(isinstance(length, int) for length in node.shape):
        raise EngineError(
            f"{graph.name}: expected port {node.name!r} to have a known dtype and a static shape, "
            f"found {node.type} {node.shape}: export with static shapes."
        )
    return PortSpec(node.name, dtype, tuple(node.shape))
