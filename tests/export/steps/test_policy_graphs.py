"""The graph of every policy in a whole model: portable, and it computes what the module computes, step after step."""

from __future__ import annotations

import functools
from itertools import cycle
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from saccade.export.bundle.tensorrt_rtx import TARGETS, check_tensorrt_rtx
from saccade.export.control.parity import ParityTolerance, check_parity
from saccade.export.lowering.capture import to_graph
from saccade.export.lowering.lint import lint
from saccade.export.steps.selecting_module import initial_state
from saccade.policies.registry import POLICIES
from saccade.proto.errors import ReceiptError
from tests.export.policy_graphs import deep_model, policy_graph, policy_step
from tests.export.samples import observation


@pytest.mark.parametrize("name", POLICIES)
def test_graph_equals_module_in_a_whole_model(name: str, tmp_path: Path) -> None:
    graph = tmp_path / f"{name}.onnx"
    model, step, config = policy_graph(name), policy_step(name), deep_model().config
    lint(model, name)
    ir.save(model, graph)
    full = policy_step(name, config.grid.tokens)
    frames = [observation(deep_model(), seed=seed) for seed in range(step.policy.warmup_steps + 5)]
    receipt = check_parity(
        graph,
        full if step.counts is None else step,
        full,
        frames,
        profile=name,
        source="synthetic",
        physical_per_unit=np.ones(config.action_dim, np.float32),
        tolerance=ParityTolerance(),
    )
    assert receipt.frames == (5 if step.counts is not None else len(frames))


BUILT = dict(
    zip(("foveate", "sparsevlm", "spatten", "vflowopt", "vla_pruner", "zero_tprune"), cycle(TARGETS))
)
"""Policies that are built too, and the card that each is built for; `Max` and `Mod` of others are only read."""


@pytest.mark.tensorrt_rtx
@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_is_read_and_some_are_built(name: str, tmp_path: Path) -> None:
    graph = tmp_path / f"{name}.onnx"
    ir.save(policy_graph(name), graph)
    cards = [BUILT[name]] if name in BUILT else []
    receipt = check_tensorrt_rtx(graph, cards)
    assert receipt.layers > 100
    assert all(receipt.plans[card].bytes > 10_000 for card in cards)


def test_rows_before_the_actions_are_read_off_the_attention_that_is_there() -> None:
    """What a pass over every row computes anyway is not computed again: the action rows alone are."""
    softmaxes = {
        name: sum(node.op_type == "Softmax" for node in policy_graph(name).graph)
        for name in ("keep_all", "vla_pruner")
    }
    assert softmaxes["vla_pruner"] == softmaxes["keep_all"] + 1


def test_a_graph_that_tells_another_fate_is_found(tmp_path: Path) -> None:
    graph, step = ir.to_proto(policy_graph("visionzip")), policy_step("visionzip")
    (teller,) = (node for node in graph.graph.node if "fate" in node.output)
    teller.output[list(teller.output).index("fate")] = "true fate"
    graph.graph.node.append(onnx.helper.make_node("Neg", ["true fate"], ["fate"]))
    (tmp_path / "visionzip.onnx").write_bytes(graph.SerializeToString())
    full = policy_step("visionzip", deep_model().config.grid.tokens)
    with pytest.raises(ReceiptError, match=r"share of visual tokens with the same fate >= 0\.9"):
        check_parity(
            tmp_path / "visionzip.onnx",
            step,
            full,
            [observation(deep_model(), seed=seed) for seed in range(2)],
            profile="visionzip",
            source="synthetic",
            physical_per_unit=np.ones(deep_model().config.action_dim, np.float32),
            tolerance=ParityTolerance(),
        )


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "keep_all"])
def test_a_profile_that_keeps_all_is_the_unpruned_graph_bit_for_bit(name: str) -> None:
    np.testing.assert_array_equal(_actions_of_everything(name), _actions_of_everything("keep_all"))


@functools.cache
def _actions_of_everything(name: str) -> np.ndarray:
    """What ONNX Runtime makes of the policy's graph for every token."""
    step = policy_step(name, deep_model().grid.tokens)
    inputs = (*observation(deep_model()), *initial_state(step))
    graph = ir.to_proto(to_graph(step, inputs, step.ports, "a step")).SerializeToString()
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    feed = {port.name: tensor.numpy() for port, tensor in zip(session.get_inputs(), inputs, strict=True)}
    actions: np.ndarray = session.run(["actions"], feed)[0]
    return actions
