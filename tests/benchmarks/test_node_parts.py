"""A graph cut up into parts: each node where its maker meant it to be, whatever it is called."""

from __future__ import annotations

import click
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.node_parts import BEFORE, BEHIND, CHOOSING, REST, TOWER, count_macs, inner_nodes, node_parts

TOWER_WEIGHT = "family.vision_backbone.featurizer.blocks.0.norm1.weight"
LAYER_WEIGHT = "family.language_model.model.layers.{}.input_layernorm.weight"
WEIGHTS = (
    TOWER_WEIGHT,
    "family.projector.fc1.weight",
    LAYER_WEIGHT.format(0),
    LAYER_WEIGHT.format(1),
    "family.action_head.model.fc2.weight",
)


def model(*extra: onnx.NodeProto, without: str = "") -> onnx.ModelProto:
    """Two layers with a cut between them by what layer 0 attends to; node names are their parts, and a number."""
    node = helper.make_node
    nodes = [
        node("Cast", ["images"], ["pixels"], "tower/0", to=TensorProto.FLOAT),
        node("Mul", ["pixels", TOWER_WEIGHT], ["features"], "tower/1"),
        node("Gelu", ["features"], ["seen"], "tower/2"),
        node("MatMul", ["seen", "family.projector.fc1.weight"], ["visual"], "rest/0"),
        node("Cast", ["attention_mask"], ["mask"], "rest/1", to=TensorProto.FLOAT),
        node("ReduceSum", ["mask"], ["last"], "rest/2"),
        node("Mul", ["visual", LAYER_WEIGHT.format(0)], ["normed"], "layers before the cut/0"),
        node("Softmax", ["normed"], ["attention"], "layers before the cut/1"),
        node("Add", ["attention", "mask"], ["hidden"], "layers before the cut/2"),
        node("Mul", ["carry.history", "attention"], ["score"], "choosing/0"),
        node("TopK", ["score", "two"], ["best", "kept"], "choosing/1"),
        node("Gather", ["hidden", "kept"], ["taken"], "choosing/2"),
        node("Concat", ["taken", "hidden"], ["fewer"], "choosing/3", axis=0),
        node("Mul", ["fewer", LAYER_WEIGHT.format(1)], ["normed_1"], "layers behind it/0"),
        node("Transpose", ["normed_1"], ["states"], "layers behind it/1"),
        node("Gather", ["states", "last"], ["read"], "layers behind it/2"),  # by the mask alone: no choice
        node("MatMul", ["read", "family.action_head.model.fc2.weight"], ["actions"], "rest/3"),
        node("Identity", ["best"], ["carry.history.next"], "choosing/4"),
        *extra,
    ]
    nodes = [each for each in nodes if not without or without not in each.input]
    ports = ("images", "attention_mask", "carry.history")
    return helper.make_model(
        helper.make_graph(
            nodes,
            "step",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]) for name in ports],
            [helper.make_tensor_value_info("actions", TensorProto.FLOAT, [4, 4])],
            [helper.make_tensor(name, TensorProto.FLOAT, [1], [1.0]) for name in (*WEIGHTS, "two")],
        )
    )


def test_every_node_has_its_part():
    found = node_parts(model(), layers=2, cut=1)
    assert found == {name: name.partition("/")[0] for name in found} and len(found) == 18
    assert set(found.values()) == {TOWER, BEFORE, BEHIND, CHOOSING, REST}


def test_the_cut_is_where_one_is_told():
    found = node_parts(model(), layers=2, cut=0)
    assert BEFORE not in found.values() and found["layers before the cut/0"] == BEHIND


def test_what_depends_on_a_loop_depends_on_what_the_loop_reads():
    body = helper.make_graph(
        [helper.make_node("Neg", ["attention"], ["out"], "inside")],
        "body", [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["", ""], ["chosen"], "choosing/5", body=body)
    last = helper.make_node("Identity", ["chosen"], ["carry.other.next"], "choosing/6")
    looped = model(loop, last)
    found = node_parts(looped, layers=2, cut=1)
    assert found["choosing/5"] == found["choosing/6"] == CHOOSING
    assert inner_nodes(looped) == {"inside"} and "inside" not in found


def test_one_name_for_two_parts_is_rest():
    twice = model(helper.make_node("Neg", ["attention"], ["carry.other.next"], "tower/1"))
    assert node_parts(twice, layers=2, cut=1)["tower/1"] == REST


def test_what_cannot_be_cut_up_is_refused():
    with pytest.raises(click.ClickException, match="found none of layer 2: equal weights are stored once"):
        node_parts(model(), layers=3, cut=1)
    with pytest.raises(click.ClickException, match="makes 'actions' in one pass"):
        node_parts(model(without="read"), layers=2, cut=1)


@pytest.mark.parametrize(
    ("kind", "first", "output", "macs"),
    [
        ("MatMul", [1, 8, 300, 32], [1, 8, 300, 333], 8 * 300 * 32 * 333),
        ("MatMul", [2, 144, 64], [2, 144, 192], 2 * 144 * 64 * 192),
        ("FusedMatMul", [1, 8, 32, 300], [1, 8, 300, 333], 8 * 300 * 32 * 333),  # the first is transposed
        ("Gemm", [288, 192], [288, 576], 288 * 192 * 576),
        ("Add", [1, 8, 300, 333], [1, 8, 300, 333], 0),
    ],
)
def test_matrix_products_are_counted(kind, first, output, macs):
    assert count_macs(kind, [{"float": first}, {"float": [1]}], output) == macs
