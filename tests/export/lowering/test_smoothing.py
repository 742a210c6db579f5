from __future__ import annotations

import numpy as np
import onnx_ir as ir

from saccade.export.lowering.int8 import lower_to_int8
from saccade.export.lowering.smoothing import ProductGroup, divide_norms, find_groups, smoothing_scales
from tests.export.lowering.attention_graph import WIDTH, block, by_hand, drawn, run, weights

QKV = ProductGroup(("layer.q", "layer.k", "layer.v"), ("layer.norm1", "layer.norm1.bias"))


def test_products_of_one_activation_are_a_group_and_a_norm_before_it_can_take_a_division() -> None:
    assert find_groups([block(weights())]) == [
        QKV,
        ProductGroup(("layer.o",), ()),
        ProductGroup(("layer.up",), ("layer.norm2", "layer.norm2.bias")),
        ProductGroup(("layer.down",), ()),
    ]


def test_what_something_else_reads_in_one_graph_is_smoothed_in_none() -> None:
    plain, other = block(weights()), block(weights())
    (norm,) = [node for node in other.graph if node.name == "node_n1"]
    read = ir.node("Neg", [norm.outputs[0]])
    other.graph.insert_after(norm, read)
    assert find_groups([plain, other])[0] == ProductGroup(QKV.products, ())


def test_the_formula_of_the_paper() -> None:
    largest, weight = np.array([4.0, 0.25, 0.0]), np.float32([[1, -1], [0.25, 0], [3, 3]])
    np.testing.assert_allclose(smoothing_scales(largest, [weight]), [2, 1, 1])
    np.testing.assert_allclose(smoothing_scales(largest, [weight], 1.0), [4, 0.25, 1])


def test_division_and_multiplication_undo_each_other() -> None:
    values, x = weights(), drawn()
    scales = np.random.default_rng(1).uniform(0.2, 5, WIDTH).astype(np.float32)
    model = block(values)
    divide_norms(model, dict.fromkeys(QKV.norms, scales))
    for product in QKV.products:
        stored = model.graph.initializers[product]
        stored.const_value = ir.tensor(values[product] * scales[:, None], name=product)
    np.testing.assert_allclose(run(model, x)[0], by_hand(x, values), atol=1e-4)


def test_outliers_of_activations_cost_int8_less() -> None:
    values, lost = weights(), []
    values["layer.norm1"][3], values["layer.norm1.bias"][3] = 200.0, 0.0
    values["layer.q"][3] *= 0.01
    values["layer.k"][3] *= 0.01
    values["layer.v"][3] *= 0.01
    largest = np.abs(run_norm(values)).max(axis=0)
    scales = smoothing_scales(largest, [values[name] for name in QKV.products])
    for smoothing in ({}, dict.fromkeys(QKV.products, scales)):
        model = block(values)
        divide_norms(model, dict.fromkeys(QKV.norms, scales) if smoothing else {})
        lower_to_int8(model, kept=["layer.o", "layer.up", "layer.down"], smoothing=smoothing)
        errors = [
            np.square(run(model, drawn(seed))[0] - by_hand(drawn(seed), values)).mean() for seed in range(8)
        ]
        lost.append(np.mean(errors))
    assert lost[1] < 0.5 * lost[0]


def run_norm(values: dict[str, np.ndarray]) -> np.ndarray:
    rows = np.concatenate([drawn(seed)[0] for seed in range(8)]).astype(np.float64)
    centred = rows - rows.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + 1e-5)
    return np.asarray(scaled * values["layer.norm1"] + values["layer.norm1.bias"])
