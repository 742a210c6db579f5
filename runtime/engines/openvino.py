"""OpenVINO on the CPU; the only file that imports ``openvino``.

Buffers are numpy arrays that OpenVINO reads and writes in place. It computes in float32 unless it is told otherwise,
in one stream, and pins no thread to a core.

Weights. OpenVINO's reader would look for them in files; it is given a graph whose weights are inputs, and each of these
then becomes a constant over the memory that lies there. Each graph keeps a re-ordered copy beside.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from saccade.proto.errors import EngineError
from saccade.proto.v1.graph_pb2 import OnnxGraph, OnnxModel, OnnxTensor
from saccade.runtime.cores import checked_threads, usable_cores
from saccade.runtime.engines.base import Buffer, Engine, PortSpec, Run, check_ports
from saccade.runtime.engines.external_weights import Weight, external_weights

_BOOL = "boolean"
"""OpenVINO's own name of numpy's ``bool``."""


class OpenVinoBuffer:
    """Memory that numpy and OpenVINO share.

    Args:
        dtype: numpy name of the dtype, e.g. ``float32``.
        shape: Length of each axis.
    """

    def __init__(self, dtype: str, shape: tuple[int, ...]) -> None:
        self.host: NDArray[Any] = np.zeros(shape, dtype)
        self.tensor = ov.Tensor(self.host, shared_memory=True)

    def to_device(self) -> None:
        """Nothing to do: the host side is the tensor."""

    def to_host(self) -> None:
        """Nothing to do: the host side is the tensor."""


class OpenVinoEngine:
    """One graph compiled by OpenVINO.

    Args:
        name: Name of the ONNX file.
        compiled: The graph, ready to run.
        graph: The graph as it was read: its ports in the same order, under the names that count. OpenVINO gives a port
            the names of all that are equal to it.
        weights: Weights that it was made over, and that have to stay.
    """

    def __init__(
        self, name: str, compiled: ov.CompiledModel, graph: OnnxGraph, weights: list[Weight]
    ) -> None:
        self._compiled, self._weights = compiled, weights
        read = dict(
            zip((port.name for port in graph.input), compiled.inputs, strict=False)
        )  # then weights follow
        written = dict(zip((port.name for port in graph.output), compiled.outputs, strict=True))
        self._ports = read | written
        self.inputs = tuple(_port_spec(port, found, name) for port, found in read.items())
        self.outputs = tuple(_port_spec(port, found, name) for port, found in written.items())

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Run:
        """See :meth:`saccade.runtime.engines.base.Engine.bind`."""
        request = self._compiled.create_infer_request()
        bound = (*check_ports(self.inputs, inputs), *check_ports(self.outputs, outputs))
        for port, buffer in bound:
            request.set_tensor(self._ports[port.name], _tensor(buffer))
        return partial(_run, request, [buffer for _, buffer in bound], self._weights)


class OpenVinoBackend:
    """The ``openvino`` backend.

    Args:
        threads: Threads of one graph; 0 = one for each core that this process may use.
        prepack: Must be True: every graph keeps a re-ordered copy of its weights.

    Raises:
        InputError: More threads than are of any use.
        EngineError: Graphs are to share one copy of the weights.
    """

    name = "openvino"

    def __init__(self, *, threads: int = 0, prepack: bool = True) -> None:
        if not prepack:
            raise EngineError(
                "expected the engine openvino to keep a copy of the weights for each profile, as it always does, "
                "found --lean: leave it out, or take --engine ort-cpu."
            )
        self._core = ov.Core()
        self._options = {
            "INFERENCE_NUM_THREADS": checked_threads(threads) or usable_cores(),
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }

    def allocate(self, dtype: str, shape: tuple[int, ...]) -> OpenVinoBuffer:
        """See :meth:`saccade.runtime.engines.base.Backend.allocate`."""
        return OpenVinoBuffer(dtype, shape)

    def load(self, graphs: Iterable[str], files: Mapping[str, NDArray[np.uint8]]) -> dict[str, Engine]:
        """See :meth:`saccade.runtime.engines.base.Backend.load`."""
        return {name: self._load(name, files) for name in graphs}

    def _load(self, name: str, files: Mapping[str, NDArray[np.uint8]]) -> OpenVinoEngine:
        found = list(external_weights(name, files))
        weights = [weight for weight in found if not weight.is_packed]
        packed = {weight.name: weight.values.tobytes() for weight in found if weight.is_packed}
        try:
            source = _with_weights_as_inputs(files[name], packed)
            model = self._core.read_model(source.SerializeToString(), b"")
            for weight in weights:
                _fix(model, weight)
            compiled = self._core.compile_model(model, "CPU", self._options)
        except RuntimeError as error:
            raise EngineError(f"expected {name} to load in OpenVINO, found: {error}") from error
        return OpenVinoEngine(name, compiled, source.graph, weights)

    def __enter__(self) -> OpenVinoBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to free by hand: graphs and buffers go with their last reference."""


def _with_weights_as_inputs(content: NDArray[np.uint8], packed: Mapping[str, bytes]) -> OnnxModel:
    """Return an ONNX file in which weights of other files are inputs, behind those that it has, and packed ones inside.

    Args:
        content: The file.
        packed: Bytes of the weights of types that numpy does not have, by name.
    """
    model: OnnxModel = OnnxModel.FromString(content.tobytes())
    graph = model.graph
    inside = [tensor for tensor in graph.initializer if tensor.data_location != OnnxTensor.IN_ANOTHER_FILE]
    for tensor in graph.initializer:
        if tensor.name in packed:
            inside.append(
                OnnxTensor(
                    name=tensor.name,
                    data_type=tensor.data_type,
                    dims=tensor.dims,
                    raw_data=packed[tensor.name],
                )
            )
        elif tensor.data_location == OnnxTensor.IN_ANOTHER_FILE:
            port = graph.input.add(name=tensor.name)
            port.type.tensor_type.elem_type = tensor.data_type
            for length in tensor.dims:
                port.type.tensor_type.shape.dim.add(dim_value=length)
    kept = [OnnxTensor.FromString(tensor.SerializeToString()) for tensor in inside]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return model


def _fix(model: ov.Model, weight: Weight) -> None:
    """Make an input of a graph a constant over a weight's memory."""
    parameter = model.input(weight.name).get_node()
    constant = ov.op.Constant(_shareable(weight.values), shared_memory=True)
    parameter.output(0).replace(constant.output(0))
    model.remove_parameter(parameter)


def _shareable(values: NDArray[Any]) -> NDArray[Any]:
    """Return the same memory as an array that may be written: OpenVINO shares no other, though it only reads."""
    memory = (ctypes.c_uint8 * values.nbytes).from_address(values.ctypes.data)
    return np.frombuffer(memoryview(memory), values.dtype).reshape(values.shape)


def _run(request: ov.InferRequest, _bound: list[Buffer], _weights: list[Weight]) -> None:
    """Run on buffers and weights that live as long as this call can be made.

    OpenVINO knows only where their memory lies; of the weights it re-orders some and reads the others where they are.
    """
    try:
        request.infer(share_inputs=True, share_outputs=True)
    except RuntimeError as error:
        raise EngineError(f"expected OpenVINO to run the graph, found: {error}") from error


def _tensor(buffer: Buffer) -> ov.Tensor:
    if not isinstance(buffer, OpenVinoBuffer):
        raise EngineError(f"expected a buffer that openvino allocated, found {type(buffer).__name__}.")
    return buffer.tensor


def _port_spec(name: str, port: ov.Output, graph: str) -> PortSpec:
    if port.partial_shape.is_dynamic:
        raise EngineError(
            f"{graph}: expected port {name!r} to have a static shape, found {port.partial_shape}: export with static "
            f"shapes."
        )
    return PortSpec(name, str(np.dtype(port.element_type.to_dtype())), tuple(port.shape))
