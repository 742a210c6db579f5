"""A module becomes a graph of the inputs and outputs that it is asked for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from torch import Tensor, nn

from saccade.export.lowering.capture import GraphPorts, to_graph


class Difference(nn.Module):
    """Tells its inputs apart."""

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor]:
        return (first - 2 * second,)


def test_one_example_given_twice_makes_two_inputs() -> None:
    same = torch.ones(1, 3)
    graph = to_graph(Difference(), (same, same), GraphPorts(("a", "b"), ("c",)), "difference")
    session = onnxruntime.InferenceSession(ir.to_proto(graph).SerializeToString())
    (found,) = session.run(None, {"a": np.full((1, 3), 5, np.float32), "b": np.ones((1, 3), np.float32)})
    assert found.tolist() == [[3.0, 3.0, 3.0]]
