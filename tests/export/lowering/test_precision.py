"""The trunk is float16; norms, softmax, tables, choosing, and the last product are not."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from saccade.export.lowering.precision import MOVES, fits, half_nodes, is_product
from tests.export.lowering.attention_graph import block, weights
from tests.export.policy_graphs import policy_graph

ATTENTION = {"q", "k", "v", "kt", "logits", "heads", "shares", "mixed"}
ISLANDS = (
    "LayerNormalization",
    "Softmax",
    "Pow",
    "ReduceMean",
    "Sqrt",
    "Div",
    "Cos",
    "Sin",
    "TopK",
    "ArgMax",
)


def half(model: ir.Model, **options: object) -> set[str]:
    return {(node.name or "").removeprefix("node_") for node in half_nodes(model, **options)}  # type: ignore[arg-type]


def test_what_is_added_to_a_result_without_a_norm_between_stays_in_float32() -> None:
    assert half(block(weights())) == ATTENTION | {"up", "relu"}


def test_what_leads_to_no_result_stays_in_float32() -> None:
    assert half(block(weights()), results=()) == set()


@pytest.mark.parametrize(
    ("wide", "lost"),
    [
        ("up", {"up", "relu"}),
        ("n1", {"q", "k", "v"}),
        ("logits", {"logits", "heads"}),
        ("attention", {"shares"}),
    ],
)
def test_what_does_not_fit_stays_in_float32(wide: str, lost: set[str]) -> None:
    assert half(block(weights())) - half(block(weights()), wide=[wide]) == lost


def test_a_constant_that_does_not_fit_keeps_its_product_in_float32() -> None:
    values = weights()
    values["layer.up"][0, 0] = 7e4
    assert half(block(weights())) - half(block(values)) == {"up", "relu"}
    constants = block(values).graph.initializers
    assert not fits(constants["layer.up"]) and fits(constants["layer.q"])


def test_a_mask_of_minus_infinity_fits() -> None:
    endless = ir.Value(name="mask", const_value=ir.tensor(np.float32([0, -np.inf])))
    assert fits(endless) and not fits(ir.Value(name="big", const_value=ir.tensor(np.float32([0, -3e38]))))


def test_a_policy_scores_and_chooses_in_float32() -> None:
    """FastV reads queries and keys of its layer; nothing from there to its top-k is rounded, and the model is."""
    graph = policy_graph("fastv").graph
    chosen = half_nodes(policy_graph("fastv"), results=["actions"])
    assert not [node.name for node in chosen if node.op_type in ISLANDS]
    top_ks = [node for node in graph if node.op_type == "TopK"]
    seen, entered, waiting = set(), set(), [node.inputs[0] for node in top_ks]
    while waiting:
        value = waiting.pop()
        node = None if value is None else value.producer()
        if node is None or node in seen:
            continue
        if node in chosen:  # the model's own queries and keys, after rotary embedding
            entered.add(node.op_type)
            continue
        seen.add(node)
        waiting.extend(node.inputs)
    assert {"Softmax", "MatMul"} <= {node.op_type for node in seen}, "scores, in float32"
    assert entered <= MOVES | {"Add"}
    large = [node for node in graph if is_product(node)]
    assert len(large) > 30 and set(large) <= chosen, "the model, in float16"
