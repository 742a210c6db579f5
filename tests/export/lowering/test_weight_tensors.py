"""A large weight goes from its file to the bundle's: not read when the graph is captured, once when it is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from saccade.export.bundle.graph_session import open_graph
from saccade.export.loading.mapped_weight import MappedWeight
from saccade.export.lowering.capture import GraphPorts, to_graph
from saccade.export.lowering.shared_weights import WEIGHTS_NAME, SharedWeights
from saccade.export.lowering.weight_tensors import WeightTensor

WIDTH = 512


class Counted:
    """Reads of one weight."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.reads = values, 0

    def __call__(self) -> Tensor:
        self.reads += 1
        return self.values.clone()


class Mixed(nn.Module):
    """A matrix that is used as it is multiplied, and one that is used in both directions."""

    def __init__(self, once: Counted, twice: Counted) -> None:
        super().__init__()
        self.once = nn.Linear(WIDTH, WIDTH, device="meta")
        self.twice = nn.Parameter(torch.empty(0))
        bias = torch.arange(WIDTH, dtype=torch.float32) / WIDTH
        self.once.load_state_dict({"weight": MappedWeight((WIDTH, WIDTH), once), "bias": bias}, assign=True)
        self.twice = nn.Parameter(MappedWeight((WIDTH, WIDTH), twice), requires_grad=False)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.once(x) @ self.twice) @ self.twice.t()


@pytest.fixture
def weights() -> tuple[Counted, Counted]:
    random = torch.Generator().manual_seed(0)
    once, twice = (torch.randn(WIDTH, WIDTH, generator=random) / WIDTH**0.5 for _ in range(2))
    return Counted(once), Counted(twice)


def captured(module: nn.Module) -> ir.Model:
    return to_graph(module, (torch.ones(1, 3, WIDTH),), GraphPorts(("x",), ("y",)), "mixed")


def test_a_weight_is_read_once_for_all_graphs(tmp_path: Path, weights: tuple[Counted, Counted]) -> None:
    module = Mixed(*weights)
    with SharedWeights(tmp_path) as shared:
        for number in range(2):
            graph = captured(module)
            assert [weight.reads for weight in weights] == [0, 0] if number == 0 else [1, 2]
            assert not any(node.op_type == "Transpose" for node in graph.graph)
            told: list[tuple[int, int]] = []
            shared.adopt(graph, lambda done, total, told=told: told.append((done, total)))  # type: ignore[misc]
            assert told[-1][0] == told[-1][1] > 3 * WIDTH * WIDTH * 4
            ir.save(graph, tmp_path / f"{number}.onnx")
        # Once as the linear layer multiplies it; the other once in each direction.
        assert [weight.reads for weight in weights] == [1, 2]
    assert (tmp_path / WEIGHTS_NAME).stat().st_size < 3.1 * WIDTH * WIDTH * 4
    x = torch.randn(1, 3, WIDTH, generator=torch.Generator().manual_seed(1))
    expected = module(x).numpy()
    for number in range(2):
        (found,) = open_graph(tmp_path / f"{number}.onnx").run(None, {"x": x.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_module_has_its_weights_back(weights: tuple[Counted, Counted]) -> None:
    module = Mixed(*weights)
    before = dict(module.named_parameters())
    graph = captured(module)
    assert all(parameter is before[name] for name, parameter in module.named_parameters())
    tensors = [value.const_value for value in graph.graph.initializers.values()]
    large = [tensor for tensor in tensors if tensor is not None and tensor.nbytes >= WIDTH * WIDTH * 4]
    assert len(large) == 3
    assert all(isinstance(tensor, WeightTensor) for tensor in large)


def test_equal_weights_of_other_names_are_stored_once(
    tmp_path: Path, weights: tuple[Counted, Counted]
) -> None:
    once, _ = weights
    tied = Counted(once.values.t().contiguous())  # as the linear layer's, once that is permuted
    with SharedWeights(tmp_path) as shared:
        shared.adopt(captured(Mixed(once, tied)))
    assert (tmp_path / WEIGHTS_NAME).stat().st_size < 2.1 * WIDTH * WIDTH * 4
