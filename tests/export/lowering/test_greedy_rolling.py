"""The rolled loop picks what the unrolled one picks, and is small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor

from saccade.export.lowering.greedy_rolling import roll_greedy_loops
from saccade.export.lowering.lint import lint
from saccade.export.lowering.rewriting import make_lean
from saccade.policies.blocks.diversity import max_min_diversity, max_sum_diversity
from saccade.policies.blocks.greedy import ONNX_FORMS

TOKENS, KEEP = 40, 12


class MaxMin(torch.nn.Module):
    def forward(self, embeddings: Tensor) -> Tensor:
        everyone = torch.ones(embeddings.shape[:2], dtype=torch.bool)
        return max_min_diversity(embeddings, everyone, KEEP)


class MaxSum(torch.nn.Module):
    def forward(self, embeddings: Tensor) -> Tensor:
        return max_sum_diversity(embeddings, torch.full((embeddings.shape[0], 1), 3), KEEP)


@pytest.mark.parametrize("method", [MaxMin, MaxSum])
@pytest.mark.parametrize("batch", [1, 2])
def test_the_rolled_loop_gives_the_same_picks(
    method: type[torch.nn.Module], batch: int, tmp_path: Path
) -> None:
    module = method().eval()
    torch.manual_seed(1)
    program = torch.onnx.export(
        module,
        (torch.randn(batch, TOKENS, 8),),
        dynamo=True,
        opset_version=20,
        custom_translation_table=dict(ONNX_FORMS),
        optimize=False,
        verbose=False,
    )
    assert program is not None
    model = make_lean(program.model)
    before = len(list(model.graph))
    assert roll_greedy_loops(model) == 1
    assert [node.op_type for node in model.graph].count("Loop") == 1
    assert len(list(model.graph)) < before - 2 * KEEP
    receipt = lint(model, "rolled")
    assert receipt.ops["Loop"] == 1
    path = tmp_path / "rolled.onnx"
    ir.save(model, path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    graph = onnx.load(path).graph
    (loop,) = (node for node in graph.node if node.op_type == "Loop")
    inner = {name for node in loop.attribute[0].g.node for name in node.output}
    assert not inner & {name for node in graph.node for name in node.output}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (node.name for node in session.get_inputs())
    for seed in range(5):
        embeddings = torch.randn(batch, TOKENS, 8, generator=torch.Generator().manual_seed(seed))
        embeddings[:, 5] = embeddings[:, 9]
        (found,) = session.run(None, {name: embeddings.numpy()})
        np.testing.assert_array_equal(found, module(embeddings).numpy())


def test_other_graphs_are_left_alone() -> None:
    class Plain(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x.argmax(dim=-1, keepdim=True) + i for i in range(10)], dim=1)

    program = torch.onnx.export(
        Plain().eval(), (torch.randn(1, 5),), dynamo=True, opset_version=20, verbose=False
    )
    assert program is not None
    model = make_lean(program.model)
    assert roll_greedy_loops(model) == 0
