from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from saccade.export.lowering.products import find_products
from saccade.export.lowering.token_importance import attention_of, importances
from tests.export.lowering.attention_graph import TOKENS, block, drawn, run, weights


def test_every_product_of_a_layer_belongs_to_its_attention() -> None:
    model = block(weights())
    found = attention_of(model, find_products(model))
    assert {name: value.name for (name, _), value in found.items()} == dict.fromkeys(
        ("layer.q", "layer.k", "layer.v", "layer.o", "layer.up", "layer.down"), "attention"
    )


def test_what_comes_before_any_attention_has_none() -> None:
    model = block(weights())
    (softmax,) = [node for node in model.graph if node.op_type == "Softmax"]
    softmax.outputs[0].shape = None
    assert attention_of(model, find_products(model)) == {}


def test_importance_is_received_attention_between_its_least_and_greatest() -> None:
    model = block(weights())
    (attention,) = [node.outputs[0] for node in model.graph if node.op_type == "Softmax"]
    model.graph.outputs.append(attention)
    (shares,) = run(model, drawn(), "attention")
    assert shares.shape == (1, 1, TOKENS, TOKENS)
    received = shares[0, 0].sum(axis=0)
    wanted = 0.005 + 0.995 * (received - received.min()) / (received.max() - received.min())
    np.testing.assert_allclose(importances(shares), wanted, rtol=1e-6)


@given(seed=st.integers(0, 1000), batch=st.integers(1, 3), heads=st.integers(1, 4))
def test_rows_of_a_batch_follow_one_another(seed: int, batch: int, heads: int) -> None:
    shares = np.random.default_rng(seed).random((batch, heads, 5, 7)).astype(np.float32)
    found = importances(shares)
    assert found.shape == (batch * 7,) and found.min() >= 0.005 and found.max() <= 1
    order = shares.sum(axis=(1, 2), dtype=np.float64).reshape(-1)
    assert np.argmax(found) == np.argmax(order) and np.argmin(found) == np.argmin(order)


def test_even_attention_makes_all_alike() -> None:
    np.testing.assert_array_equal(importances(np.full((1, 2, 3, 4), 0.25, np.float32)), np.ones(4))
