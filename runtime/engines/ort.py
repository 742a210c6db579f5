"""ONNX Runtime on the CPU; what runs it on a GPU is beside it, and only these two import ``onnxruntime``.

Buffers are numpy arrays that ONNX Runtime reads and writes in place, so nothing is copied on the way in or out.
Threads do not spin between steps: a robot's other programs need the cores.

Weights. ONNX Runtime is given them in memory, and reads no file. By default each graph keeps its own copy, re-ordered
for speed ("prepacked"), and what it was given is free to go; only tables that rows are looked up in are shared. With
``prepack=False`` all graphs read the one copy that they are given: less memory, slower matrix products. While a graph
is loaded, ONNX Runtime holds its weights once more.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from saccade.proto.errors import EngineError
from saccade.runtime.cores import checked_threads, usable_cores
from saccade.runtime.engines.base import Buffer, Engine, PortSpec, Run, check_ports
from saccade.runtime.engines.external_weights import Weight, external_weights

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
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
"""Where ONNX Runtime looks for weights that it was not given, or else in the working directory."""


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
        name: Name of the ONNX file.
        model: Content of the ONNX file.
        options: How the session runs, and the weights that it is given.
        run_options: Shared by all runs of one backend, so that one flag interrupts them.
        shared: Weights that stay where they are, and so have to stay.
        provider: ONNX Runtime's name of what computes.
    """

    def __init__(
        self,
        name: str,
        model: bytes,
        options: ort.SessionOptions,
        run_options: ort.RunOptions,
        shared: Sequence[object],
        provider: str,
    ) -> None:
        self._run_options = run_options
        self._shared = shared
        try:
            self._session = ort.InferenceSession(model, options, providers=[provider])
        except Exception as error:
            raise EngineError(f"expected {name} to load in ONNX Runtime, found: {error}") from error
        if self._session.get_providers()[0] != provider:  # it goes on with another where one does not load
            raise EngineError(
                f"expected {name} to run on {provider}, found that ONNX Runtime {ort.__version__} could not load that: "
                "are the CUDA libraries that it was built for installed?"
            )
        self.inputs = tuple(_port(node, name) for node in self._session.get_inputs())
        self.outputs = tuple(_port(node, name) for node in self._session.get_outputs())

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Run:
        """See :meth:`saccade.runtime.engines.base.Engine.bind`."""
        binding = self._session.io_binding()
        read, written = check_ports(self.inputs, inputs), check_ports(self.outputs, outputs)
        for port, buffer in read:
            binding.bind_ortvalue_input(port.name, _value(buffer))
        for port, buffer in written:
            binding.bind_ortvalue_output(port.name, _value(buffer))
        return partial(self._run, binding, [buffer for _, buffer in (*read, *written)])

    def _run(self, binding: ort.IOBinding, _bound: list[Buffer]) -> None:
        """Run on buffers that live as long as this call can be made: not every version's binding keeps them."""
        try:
            self._session.run_with_iobinding(binding, self._run_options)
        except Exception as error:
            raise EngineError(f"expected ONNX Runtime to run the graph, found: {error}") from error


class OrtBackend:
    """The ``ort-cpu`` backend.

    Args:
        threads: Threads of one graph; 0 = one for each core that this process may use.
        prepack: Whether each graph keeps a re-ordered copy of its weights: memory for speed, see the module docstring.

    Raises:
        InputError: More threads than are of any use.
    """

    name = "ort-cpu"
    provider: ClassVar[str] = "CPUExecutionProvider"
    """ONNX Runtime's name of what computes."""
    shares_tables: ClassVar[bool] = True
    """Whether graphs read one copy of a table that rows are looked up in."""

    def __init__(self, *, threads: int = 0, prepack: bool = True) -> None:
        self._threads = checked_threads(threads) or usable_cores()
        self._prepack = prepack
        self._run_options = ort.RunOptions()
        self._run_options.log_severity_level = _SILENT

    def allocate(self, dtype: str, shape: tuple[int, ...]) -> Buffer:
        """See :meth:`saccade.runtime.engines.base.Backend.allocate`."""
        return OrtBuffer(dtype, shape)

    def load(self, graphs: Iterable[str], files: Mapping[str, NDArray[np.uint8]]) -> dict[str, Engine]:
        """See :meth:`saccade.runtime.engines.base.Backend.load`."""
        tables: dict[int, NDArray[Any]] = {}
        engines: dict[str, Engine] = {}
        for name in graphs:
            engines[name] = self._load(name, files, tables)
            _give_back_freed_memory()
        return engines

    def _load(
        self, name: str, files: Mapping[str, NDArray[np.uint8]], tables: dict[int, NDArray[Any]]
    ) -> OrtEngine:
        """Load a graph; ``tables`` are those that graphs share, by their place in the weights file."""
        options = self._session_options()
        given: dict[str, ort.OrtValue] = {}
        shared: list[object] = []
        held: list[NDArray[np.int8]] = []
        for weight in external_weights(name, files):
            values = weight.values
            is_shared = weight.is_table and self.shares_tables
            if self._prepack and is_shared:  # alone in its memory: that of the whole file is free to go
                values = tables.setdefault(values.ctypes.data, values.copy())
            if weight.is_packed:
                given[weight.name], memory = _packed(weight, name)
                held.append(memory)
            else:
                given[weight.name] = ort.OrtValue.ortvalue_from_numpy(values)
            if is_shared or not self._prepack:
                options.add_initializer(weight.name, given[weight.name])
                shared.append(given[weight.name])
        options.add_external_initializers(list(given), list(given.values()))
        shared += [] if self._prepack else held
        return OrtEngine(name, files[name].tobytes(), options, self._run_options, shared, self.provider)

    def _session_options(self) -> ort.SessionOptions:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = _QUIET
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.disable_prepacking", "0" if self._prepack else "1")
        options.add_session_config_entry(_WEIGHTS_FOLDER, os.devnull)
        return options

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


def _packed(weight: Weight, graph: str) -> tuple[ort.OrtValue, NDArray[np.int8]]:
    """Return a weight of a type that numpy does not have, and the memory that has to outlive it.

    ONNX Runtime takes an array of the weight's shape for it, and reads the bytes at its beginning.
    """
    memory = np.empty(weight.shape, np.int8)
    memory.reshape(-1)[: weight.values.size] = weight.values.view(np.int8)
    try:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(memory, weight.type_number), memory
    except Exception as error:
        raise EngineError(
            f"{graph}: expected an ONNX Runtime that takes the type of {weight.name!r}, found {ort.__version__}, which "
            f"does not ({error}): upgrade it, or choose another --lowering."
        ) from error


def _value(buffer: Buffer) -> ort.OrtValue:
    value = getattr(buffer, "value", None)
    if not isinstance(value, ort.OrtValue):
        raise EngineError(f"expected a buffer that ONNX Runtime allocated, found {type(buffer).__name__}.")
    return value


def _give_back_freed_memory() -> None:
    """Return to the system what loading a graph has freed, which glibc keeps for itself."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def _port(node: Any, graph: str) -> PortSpec:
    dtype = _DTYPES.get(node.type)
    if dtype is None or not all(isinstance(length, int) for length in node.shape):
        raise EngineError(
            f"{graph}: expected port {node.name!r} to have a known dtype and a static shape, "
            f"found {node.type} {node.shape}: export with static shapes."
        )
    return PortSpec(node.name, dtype, tuple(node.shape))
