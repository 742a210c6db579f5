from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from saccade.export.lowering.gptq import round_to_nearest
from saccade.export.lowering.int4 import lower_to_int4
from tests.export.lowering.attention_graph import block, by_hand, drawn, run, weights

ROUNDED = ("layer.q", "layer.up", "layer.down")


@pytest.mark.parametrize("block_size", [16, 32])
def test_it_computes_with_the_rounded_weights(block_size: int) -> None:
    values, x = weights(), drawn()
    rounded = {name: round_to_nearest(values[name], bits=4, block=block_size) for name in ROUNDED}
    model = block(values)
    lower_to_int4(model, rounded)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    assert [node.op_type for node in proto.graph.node].count("DequantizeLinear") == 3
    assert {tensor.data_type for tensor in proto.graph.initializer if tensor.name.endswith(".int4")} == {
        onnx.TensorProto.INT4
    }
    (found,) = run(model, x)
    wanted = by_hand(x, {**values, **{name: weight.weight for name, weight in rounded.items()}})
    off = by_hand(x, values)
    assert np.abs(found - wanted).max() < 0.2 * np.abs(off - wanted).max() + 1e-5, "rounded so, not otherwise"
