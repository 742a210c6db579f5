"""int8 against numpy, and against ONNX Runtime's own quantiser."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from saccade.export.lowering.int8 import int8_weight, lower_to_int8
from tests.export.lowering.attention_graph import block, by_hand, drawn, run, weights


def test_the_graph_that_comes_out() -> None:
    model = block(weights())
    lower_to_int8(model, kept=["layer.down"])
    ops = Counter(node.op_type for node in model.graph)
    assert (ops["MatMulInteger"], ops["DynamicQuantizeLinear"]) == (5, 3), "q, k and v share an activation"
    assert ops["MatMul"] == 3, "two products of activations, and the one that was kept"
    assert {value.dtype for name, value in model.graph.initializers.items() if name.endswith(".int8")} == {
        ir.DataType.INT8
    }
    assert "layer.q" not in model.graph.initializers and "layer.down" in model.graph.initializers
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_it_computes_the_block_but_for_what_rounding_loses() -> None:
    values, x = weights(), drawn()
    model = block(values)
    lower_to_int8(model)
    (found,) = run(model, x)
    wanted = by_hand(x, values)
    error = np.abs(found - wanted)
    assert 1e-4 < error.max() < 0.1 * np.abs(wanted).max()


@given(seed=st.integers(0, 1000), scale=st.floats(1e-6, 1e6))
def test_a_weight_is_off_by_half_a_step_at_most(seed: int, scale: float) -> None:
    weight = (np.random.default_rng(seed).normal(size=(16, 5)) * scale).astype(np.float32)
    weight[:, 0] = 0
    values, steps = int8_weight(weight)
    assert np.abs(values).max() <= 127 and (steps > 0).all()
    assert (np.abs(values * steps - weight) <= steps * 0.5001).all()


def test_weights_are_those_of_onnx_runtimes_quantiser(tmp_path: Path) -> None:
    values = weights()
    onnx.save(ir.to_proto(block(values)), tmp_path / "float.onnx")
    quantize_dynamic(
        tmp_path / "float.onnx",
        tmp_path / "theirs.onnx",
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"WeightSymmetric": True},
    )
    theirs = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in onnx.load(tmp_path / "theirs.onnx").graph.initializer
    }
    for name in ("layer.q", "layer.up", "layer.down"):
        ours, steps = int8_weight(values[name])
        np.testing.assert_allclose(steps, theirs[f"{name}_scale"], rtol=1e-5)
        assert (np.abs(ours.astype(int) - theirs[f"{name}_quantized"].astype(int)) <= 1).all()
        assert (ours == theirs[f"{name}_quantized"]).mean() > 0.99, "but for ties"
