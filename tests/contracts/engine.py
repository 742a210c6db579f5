"""Conformance suite of engines: subclass :class:`EngineContract`, give it a backend, and every rule is tested.

The graph under test is ``sum = left + right``, ``larger = left > right`` over float32 (2, 3), made here.
"""

from __future__ import annotations

import gc
import weakref
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from saccade.proto.errors import EngineError
from saccade.runtime.engines.base import Backend, Buffer, Engine, PortSpec

SHAPE = (2, 3)


class EngineContract(ABC):
    """What the runtime relies on in every engine."""

    @abstractmethod
    def make_backend(self) -> Backend:
        """Return a new backend."""

    def test_ports_are_known_before_the_first_run(self, tmp_path: Path) -> None:
        with self.make_backend() as backend:
            engine = load(backend, write_graph(tmp_path))
            assert set(engine.inputs) == {
                PortSpec("left", "float32", SHAPE),
                PortSpec("right", "float32", SHAPE),
            }
            assert set(engine.outputs) == {
                PortSpec("sum", "float32", SHAPE),
                PortSpec("larger", "bool", SHAPE),
            }

    def test_results_that_are_equal_are_ports_of_their_own(self, tmp_path: Path) -> None:
        """Under their own names and in their own buffers, also where one is only another name of the other."""
        path = write_graph(tmp_path)
        model = onnx.load(path)
        model.graph.node.append(helper.make_node("Identity", ["sum"], ["again"]))
        model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, SHAPE))
        del model.graph.output[0]
        model.graph.output.append(helper.make_tensor_value_info("sum", TensorProto.FLOAT, SHAPE))
        onnx.save(model, path)
        with self.make_backend() as backend:
            engine = load(backend, path)
            assert [port.name for port in engine.outputs] == ["larger", "again", "sum"]
            inputs, outputs = buffers(backend)
            outputs["again"] = backend.allocate("float32", SHAPE)
            left, right = fill(inputs, 0)
            engine.bind(inputs, outputs)()
            for name in ("sum", "again"):
                outputs[name].to_host()
                np.testing.assert_allclose(outputs[name].host, left + right, rtol=1e-6)

    def test_runs_on_what_lies_in_the_buffers(self, tmp_path: Path) -> None:
        with self.make_backend() as backend:
            inputs, outputs = buffers(backend)
            run = load(backend, write_graph(tmp_path)).bind(inputs, outputs)
            for seed in range(3):
                left, right = fill(inputs, seed)
                run()
                for buffer in outputs.values():
                    buffer.to_host()
                np.testing.assert_allclose(outputs["sum"].host, left + right, rtol=1e-6)
                np.testing.assert_array_equal(outputs["larger"].host, left > right)

    def test_host_memory_stays_where_it_is(self, tmp_path: Path) -> None:
        with self.make_backend() as backend:
            inputs, outputs = buffers(backend)
            run = load(backend, write_graph(tmp_path)).bind(inputs, outputs)
            before = [buffer.host.ctypes.data for buffer in (*inputs.values(), *outputs.values())]
            for seed in range(3):
                fill(inputs, seed)
                run()
            after = [buffer.host.ctypes.data for buffer in (*inputs.values(), *outputs.values())]
            assert before == after

    def test_a_run_keeps_its_buffers(self, tmp_path: Path) -> None:
        """Whoever bound them may let go of them: an engine that only knows their memory would write into freed one."""
        with self.make_backend() as backend:
            inputs, outputs = buffers(backend)
            run = load(backend, write_graph(tmp_path)).bind(inputs, outputs)
            kept = [weakref.ref(buffer.host) for buffer in (*inputs.values(), *outputs.values())]
            del inputs, outputs
            gc.collect()
            assert all(reference() is not None for reference in kept)
            run()
            del run
            gc.collect()
            assert all(reference() is None for reference in kept)

    def test_the_output_of_one_run_is_the_input_of_the_next(self, tmp_path: Path) -> None:
        """Run as the carry does: two bindings over two buffers, nothing passes through the host."""
        with self.make_backend() as backend:
            engine = load(backend, write_graph(tmp_path))
            inputs, outputs = buffers(backend)
            there = engine.bind(inputs, outputs)
            back = engine.bind({**inputs, "left": outputs["sum"]}, {**outputs, "sum": inputs["left"]})
            left, right = fill(inputs, 0)
            for run in (there, back, there):
                run()
            outputs["sum"].to_host()
            np.testing.assert_allclose(outputs["sum"].host, left + 3 * right, rtol=1e-5)

    def test_new_buffers_are_zero(self) -> None:
        with self.make_backend() as backend:
            for dtype in ("bool", "uint8", "int64", "float32"):
                buffer = backend.allocate(dtype, SHAPE)
                assert (buffer.host.dtype, buffer.host.shape) == (np.dtype(dtype), SHAPE)
                assert not buffer.host.any()

    def test_refuses_a_port_without_a_buffer(self, tmp_path: Path) -> None:
        with self.make_backend() as backend:
            engine = load(backend, write_graph(tmp_path))
            inputs, outputs = buffers(backend)
            del inputs["right"]
            with pytest.raises(
                EngineError, match=r"expected buffers for \['left', 'right'\], found \['left'\]"
            ):
                engine.bind(inputs, outputs)

    @pytest.mark.parametrize(("dtype", "shape"), [("float32", (3, 2)), ("int64", SHAPE)])
    def test_refuses_a_buffer_of_another_kind(
        self, tmp_path: Path, dtype: str, shape: tuple[int, ...]
    ) -> None:
        with self.make_backend() as backend:
            engine = load(backend, write_graph(tmp_path))
            inputs, outputs = buffers(backend)
            inputs["left"] = backend.allocate(dtype, shape)
            with pytest.raises(EngineError, match=r"left: expected float32\[2, 3\], found a buffer of"):
                engine.bind(inputs, outputs)

    def test_refuses_a_file_that_is_no_graph(self, tmp_path: Path) -> None:
        path = tmp_path / "broken.onnx"
        path.write_bytes(b"not a graph")
        with self.make_backend() as backend, pytest.raises(EngineError, match=r"broken\.onnx"):
            load(backend, path)

    def test_refuses_shapes_that_are_not_static(self, tmp_path: Path) -> None:
        path = write_graph(tmp_path, shape=("batch", 3))
        with self.make_backend() as backend, pytest.raises(EngineError, match="static"):
            load(backend, path)

    @pytest.mark.parametrize("op_type", ["MatMul", "Gather"])
    def test_weights_are_those_in_memory(self, op_type: str) -> None:
        """There is no file; the weights lie behind something else, and the engine outlives what it was given."""
        weights = (
            np.random.default_rng(0).integers(-8, 9, (64, 16)).astype(np.float32)
        )  # so that sums are exact
        with self.make_backend() as backend:
            engines = backend.load(["graphs/a.onnx", "graphs/b.onnx"], weights_files(op_type, weights))
            (port,) = engines["graphs/a.onnx"].inputs
            asked, answer = backend.allocate(port.dtype, port.shape), backend.allocate("float32", (2, 16))
            runs = [engine.bind({"asked": asked}, {"answer": answer}) for engine in engines.values()]
            del engines
            asked.host[...] = np.arange(asked.host.size).reshape(asked.host.shape)
            asked.to_device()
            expected = asked.host @ weights if op_type == "MatMul" else weights[asked.host]
            for run in runs:
                answer.host[...] = 0
                run()
                answer.to_host()
                np.testing.assert_array_equal(answer.host, expected)

    def test_refuses_weights_that_are_not_there(self) -> None:
        files = weights_files("MatMul", np.zeros((64, 16), np.float32))
        with self.make_backend() as backend:
            for damaged in (None, files["graphs/w.bin"][:-1]):
                kept = {name: content for name, content in files.items() if name != "graphs/w.bin"}
                with pytest.raises(EngineError, match=r"'weights'.* at byte 64 of graphs/w\.bin, found none"):
                    backend.load(
                        ["graphs/a.onnx"], kept | ({} if damaged is None else {"graphs/w.bin": damaged})
                    )


def load(backend: Backend, graph: Path) -> Engine:
    """Load one graph."""
    return backend.load([graph.name], {graph.name: np.fromfile(graph, np.uint8)})[graph.name]


def weights_files(op_type: str, weights: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Return two graphs alike, ``answer = asked @ weights`` or ``weights[asked]``, and the file with the weights."""
    tensor = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=weights.shape, data_location=1)
    for key, value in {"location": "w.bin", "offset": "64", "length": str(weights.nbytes)}.items():
        tensor.external_data.add(key=key, value=value)
    if op_type == "MatMul":
        inputs, asked = (
            ["asked", "weights"],
            helper.make_tensor_value_info("asked", TensorProto.FLOAT, (2, 64)),
        )
    else:
        inputs, asked = ["weights", "asked"], helper.make_tensor_value_info("asked", TensorProto.INT64, (2,))
    graph = helper.make_graph(
        [helper.make_node(op_type, inputs, ["answer"])],
        "weights",
        [asked],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, (2, 16))],
        [tensor],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    content = np.frombuffer(model.SerializeToString(), np.uint8)
    behind = np.concatenate([np.zeros(64, np.uint8), weights.reshape(-1).view(np.uint8)])
    return {"graphs/a.onnx": content, "graphs/b.onnx": content, "graphs/w.bin": behind}


def write_graph(folder: Path, *, shape: tuple[Any, ...] = SHAPE) -> Path:
    """Write the graph under test and return its path."""
    ports = {
        name: helper.make_tensor_value_info(name, dtype, shape)
        for name, dtype in (
            ("left", TensorProto.FLOAT),
            ("right", TensorProto.FLOAT),
            ("sum", TensorProto.FLOAT),
            ("larger", TensorProto.BOOL),
        )
    }
    nodes = [
        helper.make_node("Add", ["left", "right"], ["sum"]),
        helper.make_node("Greater", ["left", "right"], ["larger"]),
    ]
    graph = helper.make_graph(
        nodes, "contract", [ports["left"], ports["right"]], [ports["sum"], ports["larger"]]
    )
    path = folder / "contract.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def buffers(backend: Backend) -> tuple[dict[str, Buffer], dict[str, Buffer]]:
    """Allocate a buffer for each port."""
    inputs = {name: backend.allocate("float32", SHAPE) for name in ("left", "right")}
    return inputs, {"sum": backend.allocate("float32", SHAPE), "larger": backend.allocate("bool", SHAPE)}


def fill(inputs: dict[str, Buffer], seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Write random numbers into the inputs and return copies of them."""
    random = np.random.default_rng(seed)
    for buffer in inputs.values():
        buffer.host[...] = random.standard_normal(SHAPE)
        buffer.to_device()
    return inputs["left"].host.copy(), inputs["right"].host.copy()
