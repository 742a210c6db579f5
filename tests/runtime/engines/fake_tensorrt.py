"""TensorRT as far as we use it, over a GPU made of host memory: a plan is an ONNX file, and ONNX Runtime computes.

It refuses what the real one refuses or crashes on: a context without memory, a port without an address, a capture
before the first eager run, weights that are not given. That its names are real is tested against the real modules.
"""

from __future__ import annotations

import ctypes
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from tests.runtime.engines.fake_cuda import FakeCuda

ARENA_BYTES = 4096


class DataType(Enum):
    FLOAT, BOOL, INT64, UINT8 = "float32", "bool", "int64", "uint8"


class Mode(Enum):
    INPUT, OUTPUT = range(2)


class Logger:
    """What ``ILogger`` is: the base of loggers."""

    Severity = SimpleNamespace(ERROR="error", INTERNAL_ERROR="defect")


class FakeTensorRt:
    """The module; give it where a module ``tensorrt`` is expected.

    Args:
        cuda: The GPU that it runs on.
        takes_weights: Whether its parser takes weights from memory, as from TensorRT 10.13 on.
    """

    __name__ = "tensorrt"
    __version__ = "10.3.0"
    ILogger = Logger
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user managed")
    TensorIOMode = Mode

    def __init__(self, cuda: FakeCuda, *, takes_weights: bool = True) -> None:
        self.cuda, self.takes_weights = cuda, takes_weights
        self.timings_given: list[bytes] = []

    def Builder(self, logger: Any) -> Any:
        def build(network: Any, config: Any) -> memoryview | None:
            if network.model is None:
                return None
            return memoryview(network.model.SerializeToString())

        def create_network(flags: int) -> Any:
            assert flags == 1 << 1
            return _Network()

        return SimpleNamespace(
            create_network=create_network, create_builder_config=self._config, build_serialized_network=build
        )

    def _config(self) -> Any:
        def create_timing_cache(content: bytes) -> Any:
            self.timings_given.append(content)
            return SimpleNamespace(serialize=lambda: b"measured")

        return SimpleNamespace(
            create_timing_cache=create_timing_cache, set_timing_cache=lambda cache, skip: True
        )

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        return (_Parser if self.takes_weights else _OldParser)(network)

    def Runtime(self, logger: Any) -> Any:
        return SimpleNamespace(deserialize_cuda_engine=lambda plan: _Engine(bytes(plan), self))


class _Network:
    def __init__(self) -> None:
        self.model: onnx.ModelProto | None = None

    @property
    def num_inputs(self) -> int:
        assert self.model is not None
        return len(self.model.graph.input)

    def get_input(self, index: int) -> Any:
        assert self.model is not None
        port = self.model.graph.input[index]
        dims = port.type.tensor_type.shape.dim
        return SimpleNamespace(
            name=port.name, shape=[dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims]
        )


class _OldParser:
    """That of TensorRT 10.3, which reads weights from files alone."""

    num_errors = 0

    def __init__(self, network: _Network) -> None:
        self._network = network

    def parse(self, content: bytes) -> bool:
        self._network.model = onnx.load_from_string(content)
        return True

    def parse_from_file(self, path: str) -> bool:
        self._network.model = onnx.load(path)
        return True


class _Parser(_OldParser):
    def load_model_proto(self, content: bytes) -> bool:
        return self.parse(content)

    def load_initializer(self, name: str, address: int, count: int) -> bool:
        assert self._network.model is not None
        for tensor in self._network.model.graph.initializer:
            if tensor.name == name:
                tensor.raw_data = ctypes.string_at(address, count)
                tensor.data_location = onnx.TensorProto.DEFAULT
                del tensor.external_data[:]
        return True

    def parse_model_proto(self) -> bool:
        assert self._network.model is not None
        return all(
            tensor.data_location == onnx.TensorProto.DEFAULT
            for tensor in self._network.model.graph.initializer
        )


class _Engine:
    device_memory_size_v2 = ARENA_BYTES

    def __init__(self, plan: bytes, library: FakeTensorRt) -> None:
        options = ort.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        self.session = ort.InferenceSession(plan, options, providers=["CPUExecutionProvider"])
        self.library = library
        kinds = {
            "tensor(float)": DataType.FLOAT,
            "tensor(bool)": DataType.BOOL,
            "tensor(int64)": DataType.INT64,
            "tensor(uint8)": DataType.UINT8,
        }
        read, written = self.session.get_inputs(), self.session.get_outputs()
        self.ports = {port.name: (port.shape, kinds[port.type]) for port in (*read, *written)}
        self.read, self.written = [port.name for port in read], [port.name for port in written]
        self.num_io_tensors = len(self.ports)

    def get_tensor_name(self, index: int) -> str:
        return [*self.ports][index]

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name in self.read else Mode.OUTPUT

    def get_tensor_shape(self, name: str) -> list[int]:
        return self.ports[name][0]

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.ports[name][1]

    def create_execution_context(self, strategy: str) -> _Context:
        assert strategy == FakeTensorRt.ExecutionContextAllocationStrategy.USER_MANAGED
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine, self._cuda = engine, engine.library.cuda
        self._addresses: dict[str, int] = {}
        self._memory: tuple[int, int] | None = None
        self._has_run = False

    def set_device_memory(self, address: int, count: int) -> None:
        assert address in self._cuda.device and count >= self._engine.device_memory_size_v2
        self._memory = address, count

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address in self._cuda.device
        self._addresses[name] = address
        return name in self._engine.ports

    def execute_async_v3(self, stream: int) -> bool:
        if self._memory is None or set(self._addresses) != set(self._engine.ports):
            return False
        assert self._has_run or self._cuda.captured is None, "captured before it ran"
        self._has_run = True
        self._cuda.put("enqueue", self._compute)
        return True

    def _compute(self) -> None:
        def tensor(name: str) -> np.ndarray[Any, Any]:
            shape, kind = self._engine.ports[name]
            dtype = np.dtype(kind.value)
            memory = self._cuda.device[self._addresses[name]]  # a KeyError where it was freed
            return np.frombuffer(memory, dtype, int(np.prod(shape))).reshape(shape)

        results = self._engine.session.run(
            self._engine.written, {name: tensor(name) for name in self._engine.read}
        )
        for name, result in zip(self._engine.written, results, strict=True):
            tensor(name)[...] = result
