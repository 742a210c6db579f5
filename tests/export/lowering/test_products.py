from pathlib import Path

import numpy as np
import onnx_ir as ir

from saccade.export.lowering.products import find_products, is_shared
from saccade.export.lowering.shared_weights import SharedWeights
from tests.export.lowering.attention_graph import INNER, WIDTH, block, weights

NAMES = ("layer.q", "layer.k", "layer.v", "layer.o", "layer.up", "layer.down")


def test_products_with_a_constant_are_found_in_order() -> None:
    values = weights()
    products = find_products(block(values))
    assert [product.name for product in products] == list(NAMES)
    for product in products:
        np.testing.assert_array_equal(product.weight, values[product.name])
    assert products[4].shape == (WIDTH, INNER)
    assert [value.name for value in products[1].activations] == ["n1"]


def test_a_weight_of_two_products_is_one() -> None:
    model = block(weights())
    (up,) = [node for node in model.graph if node.name == "node_up"]
    again = ir.node("MatMul", [up.inputs[0], up.inputs[1]], name="again")
    model.graph.insert_after(up, again)
    products = {product.name: product for product in find_products(model)}
    assert [node.name for node in products["layer.up"].nodes] == ["node_up", "again"]


def test_graphs_that_share_a_file_call_a_weight_by_its_place(tmp_path: Path) -> None:
    found = []
    with SharedWeights(tmp_path) as shared:
        for name in ("one", "two"):
            model = block(weights())
            for value in list(model.graph.initializers.values()):
                model.graph.initializers.pop(value.name or "")
                value.name = f"{name}.{value.name}" if name == "two" else value.name
                model.graph.register_initializer(value)
            shared.adopt(model)
            found.append([product.name for product in find_products(model)])
    assert found[0] == found[1] and all(name.startswith("at ") for name in found[0])
    assert len(set(found[0])) == len(NAMES)


def test_a_name_that_capture_gave_is_not_the_same_elsewhere() -> None:
    constants = block(weights()).graph.initializers
    assert is_shared(constants["layer.norm1"]) and not is_shared(constants["one"])
