import numpy as np
import onnx_ir as ir

from saccade.export.lowering.constants import add_constant
from tests.export.lowering.attention_graph import block, weights


def test_a_name_is_given_once() -> None:
    model = block(weights())
    first = add_constant(model, "new", ir.tensor(np.ones((2, 3), np.float32)))
    assert add_constant(model, "new", ir.tensor(np.zeros(1, np.float32))) is first
    assert list(first.shape or ()) == [2, 3] and first.dtype == ir.DataType.FLOAT
