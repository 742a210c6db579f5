"""How much does each token matter to a layer? As much attention as it receives there, summed over heads and queries.

A product belongs to the attention of its layer: that which its outputs (or those of a product beside it) enter, for
queries, keys and values; for what follows in the layer, the last one before it of as many tokens.

Source:
    RSQ, 2503.01820, and ylsung/rsq, ``OriginalAttentionWeighting``: received attention brought to 0.005 to 1 by its
    least and greatest, which RSQ's own script takes.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from saccade.export.lowering.products import Product

LEAST_IMPORTANCE = 0.005
_ATTENTION_AXES = 4


def attention_of(model: ir.Model, products: list[Product]) -> dict[tuple[str, int], ir.Value]:
    """Return the attention that tells the importance of the rows of each product, where there is one.

    Args:
        model: Graph with static shapes.
        products: Its products.

    Returns:
        Softmax output ``(batch, heads, queries, keys)`` by the name of the product and the place of its node.
    """
    by_node = {
        node: (product.name, place) for product in products for place, node in enumerate(product.nodes)
    }
    entered = _entered(model, set(by_node))
    beside: dict[ir.Value | None, ir.Value] = {
        node.inputs[0]: entered[node] for node in by_node if node in entered
    }
    last: dict[ir.Value, dict[int, tuple[int, ir.Value]]] = {}
    found: dict[tuple[str, int], ir.Value] = {}
    for index, node in enumerate(model.graph):
        before: dict[int, tuple[int, ir.Value]] = {}
        for value in node.inputs:
            for tokens, candidate in last.get(value, {}).items() if value is not None else ():
                before[tokens] = max(before.get(tokens, candidate), candidate, key=lambda each: each[0])
        if node in by_node:
            rows = _rows(node.inputs[0])
            own = beside.get(node.inputs[0])
            if own is not None and _keys(own) == rows:
                found[by_node[node]] = own
            elif rows in before:
                found[by_node[node]] = before[rows][1]
        if _is_attention(node):
            before = {**before, _keys(node.outputs[0]): (index, node.outputs[0])}
        for output in node.outputs:
            last[output] = before
    return found


def importances(attention: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the importance of each token, float64 ``(batch * keys,)``, 0.005 to 1.

    Args:
        attention: float32 ``(batch, heads, queries, keys)``, rows that sum to 1.
    """
    received = attention.astype(np.float64).sum(axis=(1, 2)).reshape(-1)
    least, most = received.min(), received.max()
    if most <= least:
        return np.ones(len(received))
    scaled: NDArray[np.float64] = (received - least) / (most - least)
    return scaled * (1.0 - LEAST_IMPORTANCE) + LEAST_IMPORTANCE


def _entered(model: ir.Model, products: set[ir.Node]) -> dict[ir.Node, ir.Value]:
    """Return the attention that the outputs of products enter with no other product between."""
    entered: dict[ir.Node, ir.Value] = {}
    for node in model.graph:
        if not _is_attention(node):
            continue
        waiting, seen = [node.inputs[0]], set()
        while waiting:
            value = waiting.pop()
            producer = None if value is None else value.producer()
            if producer is None or producer in seen:
                continue
            seen.add(producer)
            if producer in products:
                entered.setdefault(producer, node.outputs[0])
            elif not _is_attention(producer):
                waiting.extend(producer.inputs)
    return entered


def _is_attention(node: ir.Node) -> bool:
    shape = node.outputs[0].shape if node.op_type == "Softmax" else None
    return shape is not None and len(shape) == _ATTENTION_AXES


def _keys(attention: ir.Value) -> int:
    """Return how many tokens an attention reads from, over the whole batch."""
    sizes = _sizes(attention)
    return sizes[0] * sizes[-1] if sizes else 0


def _rows(activation: ir.Value | None) -> int:
    return math.prod(_sizes(activation)[:-1])


def _sizes(value: ir.Value | None) -> list[int]:
    return [] if value is None or value.shape is None else [int(size) for size in value.shape.numpy()]
