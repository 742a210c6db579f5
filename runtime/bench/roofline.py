"""What this machine can do at best, measured: one big matrix product on the engine, and memory read end to end."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from saccade.proto.devices import FP32, Device
from saccade.proto.v1.graph_pb2 import OnnxModel
from saccade.runtime.engines.base import Backend

_SIDE = 1024
"""Rows and columns of the matrices: large enough that no engine is held up by anything but arithmetic."""
_GPU_SIDE = 4096
"""Rows and columns on a GPU, which is done with a small product before it is started."""
_READ_ROWS = 8192
"""Rows and columns of the matrix that a GPU reads for the bandwidth, to multiply it by one row: 256 MiB."""
_READ_BYTES = 256 * 2**20
"""Bytes that are read for the bandwidth: far more than a cache holds."""
_GRAPH = "product.onnx"
_FLOAT32, _IR_VERSION, _OPSET = 1, 8, 20


def measure_roofline(backend: Backend, threads: int, *, rounds: int = 20, on_gpu: bool = False) -> Device:
    """Measure this machine, with the engine and the threads that the bundle gets; the best of all rounds counts.

    Args:
        backend: Engine that multiplies.
        threads: How many threads read.
        rounds: How often each is measured.
        on_gpu: The engine computes on a GPU, whose own memory counts: it is read by a product of one row.

    Returns:
        A device with one peak, float32, FLOP a second, and the bandwidth of reading, bytes a second.

    Raises:
        EngineError: The engine cannot multiply.
    """
    side = _GPU_SIDE if on_gpu else _SIDE
    flops = 2 * side**3 / _fastest(_product(backend, side, side), rounds)
    if on_gpu:
        bandwidth = 4 * _READ_ROWS**2 / _fastest(_product(backend, 1, _READ_ROWS), rounds)
    else:
        with ThreadPoolExecutor(threads) as pool:
            bandwidth = _READ_BYTES / _fastest(_reading(pool, threads), rounds)
    label = f"this machine, {backend.name}" + ("" if on_gpu else f", {threads} threads")
    source = f"a product of {side} x {side} matrices; {_READ_BYTES >> 20} MiB read"
    return Device("here", label, bandwidth, {FP32: flops}, FP32, source)


def _product(backend: Backend, rows: int, side: int) -> Callable[[], None]:
    """Return what multiplies ``(rows, side)`` by ``(side, side)`` once."""
    content = np.frombuffer(_product_graph(rows, side), np.uint8)
    engine = backend.load([_GRAPH], {_GRAPH: content})[_GRAPH]
    factors = {port.name: backend.allocate(port.dtype, port.shape) for port in engine.inputs}
    products = {port.name: backend.allocate(port.dtype, port.shape) for port in engine.outputs}
    for seed, factor in enumerate(factors.values()):
        factor.host[...] = np.random.default_rng(seed).standard_normal(factor.host.shape)
        factor.to_device()
    return engine.bind(factors, products)


def _product_graph(rows: int = _SIDE, side: int = _SIDE) -> bytes:
    """Return an ONNX file that multiplies two matrices, float32 ``(rows, side)`` and ``(side, side)``."""
    model = OnnxModel(ir_version=_IR_VERSION)
    model.opset_import.add(version=_OPSET)
    graph = model.graph
    graph.name = "product"
    graph.node.add(op_type="MatMul", input=["left", "right"], output=["product"])
    for port, shape in (
        (graph.input.add(name="left"), (rows, side)),
        (graph.input.add(name="right"), (side, side)),
        (graph.output.add(name="product"), (rows, side)),
    ):
        tensor = port.type.tensor_type
        tensor.elem_type = _FLOAT32
        for length in shape:
            tensor.shape.dim.add(dim_value=length)
    content: bytes = model.SerializeToString()
    return content


def _reading(pool: ThreadPoolExecutor, threads: int) -> Callable[[], None]:
    """Return what reads all of a large array once, each thread its share."""
    numbers = np.ones(_READ_BYTES // 8, np.int64)  # written once, so that its pages exist
    shares = np.array_split(numbers, threads)

    def read() -> None:
        for _ in pool.map(np.bitwise_or.reduce, shares):
            pass

    return read


def _fastest(run: Callable[[], None], rounds: int) -> float:
    """Return the seconds of the fastest round; the first one only warms up."""
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
