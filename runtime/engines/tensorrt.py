"""TensorRT and TensorRT-RTX, which differ in the name of their Python module and in what their plans depend on.

Plans come from the plan cache: `saccade build` makes them, and where one is missing, the engine refuses. All contexts
of one load share one arena on the device, as large as the greediest needs: they run one after another on one stream.
A context is bound once: it runs the graph once eagerly, which writes into its outputs, and is then captured as a CUDA
graph that each run launches and waits for. So carries stay on the device, and a stage's time is its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import EngineError
from saccade.runtime.engines.base import Buffer, Engine, PortSpec, Run, check_ports
from saccade.runtime.engines.cuda_driver import Gpu, find_gpu
from saccade.runtime.engines.cuda_memory import RUNTIME, CudaBuffer, CudaStream, DeviceMemory
from saccade.runtime.engines.external_weights import graph_sha256
from saccade.runtime.engines.plan_cache import PlanCache, PlanKey
from saccade.runtime.engines.tensorrt_build import FLAGS, build_plan, told, told_errors

_LOG = logging.getLogger(__name__)
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}
"""numpy's name of each ``DataType``."""


class Plans:
    """The plans of one engine for one GPU: found in the cache, or built into it.

    Args:
        engine: Name of the engine.
        library: The module ``tensorrt`` or ``tensorrt_rtx_bindings``.
        cache: Where they lie.
        target: Compute capability, e.g. ``SM87``.
        gpu: The GPU that they are bound to; None where each of that compute capability runs them.
    """

    def __init__(
        self, engine: str, library: ModuleType, cache: PlanCache, target: str, gpu: Gpu | None
    ) -> None:
        self._engine, self._library, self._cache = engine, library, cache
        self._target, self._gpu = target, gpu
        self._hashes: dict[str, str] = {}

    def key(self, graph: str, files: Mapping[str, NDArray[np.uint8]]) -> PlanKey:
        """Return everything that a graph's plan depends on.

        Args:
            graph: Name of the ONNX file.
            files: Content of all files by name.

        Raises:
            EngineError: The file is no graph.
        """
        return PlanKey(
            graph=graph,
            sha256=graph_sha256(graph, files, self._hashes),
            engine=self._engine,
            version=str(self._library.__version__),
            compute_capability=self._target,
            gpu="" if self._gpu is None else self._gpu.name,
            driver=0 if self._gpu is None else self._gpu.driver,
            flags=FLAGS,
        )

    def build(self, graph: str, files: Mapping[str, NDArray[np.uint8]]) -> PlanKey:
        """Build a graph's plan into the cache, and return what it depends on; call it inside ``cache.building()``.

        Args:
            graph: Name of the ONNX file.
            files: Content of all files by name.

        Raises:
            EngineError: The graph is refused.
            FileError: The plan cannot be written.
        """
        key = self.key(graph, files)
        built = build_plan(
            self._library,
            graph,
            files,
            target=self._target,
            timings=self._cache.read_timings(key),
            scratch=self._cache.folder,
        )
        self._cache.write(key, built.plan)
        if built.timings is not None:
            self._cache.write_timings(key, built.timings)
        return key


class TensorRtEngine:
    """One graph, from its plan.

    Args:
        name: Name of the ONNX file.
        library: The module that loaded it.
        engine: Its ``ICudaEngine``.
        stream: Where it runs.
        errors: What it tells its errors.

    Attributes:
        arena: Memory that its contexts work in, shared with the other engines of one load.
    """

    arena: DeviceMemory

    def __init__(self, name: str, library: ModuleType, engine: Any, stream: CudaStream, errors: Any) -> None:
        self._name, self._library, self._engine = name, library, engine
        self._stream, self._errors = stream, errors
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        is_input = {port: engine.get_tensor_mode(port) == library.TensorIOMode.INPUT for port in names}
        self.inputs = tuple(self._port(port) for port in names if is_input[port])
        self.outputs = tuple(self._port(port) for port in names if not is_input[port])

    @property
    def arena_bytes(self) -> int:
        """Memory that one of its contexts works in, bytes."""
        return int(self._engine.device_memory_size_v2)

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Run:
        """Tie every port to a buffer and return what runs the graph on them; the outputs are written to at once.

        Args:
            inputs: Buffers by the name of the input port.
            outputs: Buffers by the name of the output port.

        Raises:
            EngineError: A port without a buffer, a buffer without a port, another dtype or shape, or TensorRT refuses.
        """
        bound = (*check_ports(self.inputs, inputs), *check_ports(self.outputs, outputs))
        strategy = self._library.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._engine.create_execution_context(strategy)
        if context is None:
            raise self._refused("a context")
        context.set_device_memory(self.arena.address, self.arena.bytes)
        for port, buffer in bound:
            if not context.set_tensor_address(port.name, _address(buffer)):
                raise self._refused(f"an address of {port.name!r}")
        enqueue = partial(self._enqueue, context)
        enqueue()
        self._stream.synchronize()
        launch = self._stream.capture(enqueue) if self._is_capturable(context) else enqueue
        return partial(self._run, launch, context, [buffer for _, buffer in bound])

    def _is_capturable(self, context: Any) -> bool:
        """Whether a CUDA graph can be made of it: TensorRT-RTX says so, of TensorRT it is tried."""
        asked = getattr(context, "is_stream_capturable", None)
        if asked is None or asked(self._stream.handle):
            return True
        _LOG.warning(
            "%s: TensorRT-RTX makes no CUDA graph of it, so that each run enqueues it anew", self._name
        )
        return False

    def _enqueue(self, context: Any) -> None:
        if not context.execute_async_v3(self._stream.handle):
            raise self._refused("a run")

    def _run(self, launch: Run, _context: Any, _bound: list[Buffer]) -> None:
        """Run, in a context and on buffers that live as long as this call can be made."""
        launch()
        self._stream.synchronize()

    def _refused(self, what: str) -> EngineError:
        return EngineError(
            f"{self._name}: expected {told(self._library)} to take {what}, found: {self._errors.told()}."
        )

    def _port(self, name: str) -> PortSpec:
        kind, shape = self._engine.get_tensor_dtype(name), tuple(self._engine.get_tensor_shape(name))
        dtype = _DTYPES.get(kind.name)
        if dtype is None or min(shape, default=0) < 0:
            raise EngineError(
                f"{self._name}: expected port {name!r} to have a known dtype and a static shape, found {kind.name} "
                f"{shape}: export with static shapes."
            )
        return PortSpec(name, dtype, shape)


class TensorRtBackend:
    """The ``tensorrt`` backend.

    Args:
        threads: Ignored: the graph runs on the GPU.
        prepack: Must be True: every plan has its own copy of the weights.
        plans: Folder of the plans; None = in the user's cache.
        builds_plans: Build a plan that is missing, instead of refusing.
        library: The Python module of TensorRT; None = the installed one.
        runtime: The module ``cuda.bindings.runtime``; None = the installed one.
        gpu: The GPU; None = the first of this machine.

    Raises:
        EngineError: There is no GPU or no driver, a library is missing, or graphs are to share their weights.
    """

    name = "tensorrt"
    module: ClassVar[str] = "tensorrt"
    is_bound_to_gpu: ClassVar[bool] = True
    """Whether plans run only on the GPU model and driver that they were built with."""

    def __init__(
        self,
        *,
        threads: int = 0,
        prepack: bool = True,
        plans: Path | None = None,
        builds_plans: bool = False,
        library: ModuleType | None = None,
        runtime: ModuleType | None = None,
        gpu: Gpu | None = None,
    ) -> None:
        del threads
        if not prepack:
            raise EngineError(
                f"expected the engine {self.name} to keep a copy of the weights for each profile, as its plans do, "
                "found --lean: leave it out, or take --engine ort-cpu."
            )
        gpu = find_gpu() if gpu is None else gpu
        self._library = import_module(self.module) if library is None else library
        self._cache, self._builds_plans = PlanCache(plans), builds_plans
        self._plans = self.plans_for(self._library, self._cache, gpu.target, gpu)
        self._stream = CudaStream(import_module(RUNTIME) if runtime is None else runtime)
        self._errors = told_errors(self._library)
        self._runtime = self._library.Runtime(self._errors)

    @classmethod
    def plans_for(cls, library: ModuleType, cache: PlanCache, target: str, gpu: Gpu | None) -> Plans:
        """Return the plans of this engine for one GPU.

        Args:
            library: The Python module of TensorRT.
            cache: Where they lie.
            target: Compute capability, e.g. ``SM87``.
            gpu: The GPU; None = any of that compute capability.
        """
        return Plans(cls.name, library, cache, target, gpu if cls.is_bound_to_gpu else None)

    def allocate(self, dtype: str, shape: tuple[int, ...]) -> CudaBuffer:
        """Return a new buffer filled with zeros, on the device and pinned on the host.

        Args:
            dtype: numpy name of the dtype, e.g. ``float32``.
            shape: Length of each axis.

        Raises:
            EngineError: The device has no room.
        """
        return CudaBuffer(self._stream, dtype, shape)

    def load(self, graphs: Iterable[str], files: Mapping[str, NDArray[np.uint8]]) -> dict[str, Engine]:
        """Load the plans of the graphs of one bundle, which share one arena.

        Args:
            graphs: Names of the ONNX files.
            files: Content of all files by name, uint8 ``(bytes,)``.

        Returns:
            Engines by the name of the graph.

        Raises:
            PlanError: A plan is missing, of another machine or version, or damaged.
            EngineError: A plan cannot be loaded, or a graph cannot be built.
        """
        engines = {name: self._load(name, files) for name in graphs}
        arena = self._stream.device_memory(
            max((engine.arena_bytes for engine in engines.values()), default=0)
        )
        for engine in engines.values():
            engine.arena = arena
        return dict(engines)

    def _load(self, name: str, files: Mapping[str, NDArray[np.uint8]]) -> TensorRtEngine:
        key = self._plans.key(name, files)
        if self._builds_plans and not self._cache.has(key):
            with self._cache.building():
                self._plans.build(name, files)
        plan = self._cache.read(key)
        engine = self._runtime.deserialize_cuda_engine(plan.data)
        if engine is None:
            raise EngineError(
                f"{name}: expected {told(self._library)} to load its plan, found: {self._errors.told()}: "
                "`saccade build --rebuild` makes it anew."
            )
        return TensorRtEngine(name, self._library, engine, self._stream, self._errors)

    def __enter__(self) -> TensorRtBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the stream and free it; plans and buffers go with their last reference."""
        self._stream.close()


class TensorRtRtxBackend(TensorRtBackend):
    """The ``tensorrt-rtx`` backend: plans are compiled for a compute capability, and finished where they run."""

    name = "tensorrt-rtx"
    module = "tensorrt_rtx_bindings"
    is_bound_to_gpu = False


def _address(buffer: Buffer) -> int:
    if not isinstance(buffer, CudaBuffer):
        raise EngineError(f"expected a buffer on the GPU, found {type(buffer).__name__}.")
    return buffer.address
