"""The measured limit against what the machine was seen to do."""

from __future__ import annotations

import numpy as np
import onnx

from saccade.proto.devices import FP32
from saccade.runtime.bench import roofline
from saccade.runtime.engines.ort import OrtBackend


def test_the_product_is_a_valid_graph_and_multiplies() -> None:
    model = onnx.load_from_string(roofline._product_graph())
    onnx.checker.check_model(model, full_check=True)
    with OrtBackend(threads=1) as backend:
        content = np.frombuffer(roofline._product_graph(), np.uint8)
        engine = backend.load(["product.onnx"], {"product.onnx": content})["product.onnx"]
        factors = {port.name: backend.allocate(port.dtype, port.shape) for port in engine.inputs}
        product = backend.allocate("float32", (1024, 1024))
        rng = np.random.default_rng(0)
        for factor in factors.values():
            factor.host[...] = rng.standard_normal(factor.host.shape)
        engine.bind(factors, {"product": product})()
        expected = factors["left"].host @ factors["right"].host
        np.testing.assert_allclose(product.host, expected, rtol=1e-4, atol=1e-3)


def test_the_limit_names_engine_and_threads() -> None:
    with OrtBackend(threads=1) as backend:
        device = roofline.measure_roofline(backend, 1, rounds=2)
    assert device.peaks[FP32] > 1e9 and device.bandwidth > 1e8
    assert "ort-cpu, 1 threads" in device.label


def test_a_gpu_reads_its_own_memory_by_a_product_of_one_row() -> None:
    """Here the engine stands in for one, on a smaller matrix."""
    content = np.frombuffer(roofline._product_graph(1, 64), np.uint8)
    onnx.checker.check_model(onnx.load_from_string(content.tobytes()), full_check=True)
    with OrtBackend(threads=1) as backend:
        run = roofline._product(backend, 1, 64)
        run()
        engine = backend.load(["product.onnx"], {"product.onnx": content})["product.onnx"]
    assert [port.shape for port in (*engine.inputs, *engine.outputs)] == [(1, 64), (64, 64), (1, 64)]
