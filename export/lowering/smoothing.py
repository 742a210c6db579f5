"""Moves outliers of activations into weights: a norm divides its channels, weights behind it multiply their inputs.

What is computed stays the same, but an activation of even channels loses less when it is quantised with one scale. It
is possible where a norm's own weight can take the division, and nothing but products reads what the norm gives.

Source:
    SmoothQuant, 2211.10438, eq. 4: ``s_j = max|X_j|^a / max|W_j|^(1-a)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from saccade.export.lowering.constants import add_constant
from saccade.export.lowering.products import find_products, is_shared, shared_name

MIGRATION = 0.5
"""The exponent ``a``: how much of an outlier moves into the weights."""
_LEAST, _MOST = 1e-2, 1e2
_INPUTS = {"LayerNormalization": slice(1, 3), "Mul": slice(0, 2)}
"""Which inputs of a node that ends a norm may be its weight or bias."""


@dataclass(frozen=True)
class ProductGroup:
    """Products that share what they are multiplied with, in some graph of a bundle.

    Args:
        products: Their names, in the order in which they run.
        norms: Names of the constants of the norm before them, which can take a division; empty = there is none.
    """

    products: tuple[str, ...]
    norms: tuple[str, ...]


def find_groups(models: Iterable[ir.Model]) -> list[ProductGroup]:
    """Return the groups of products of a bundle's graphs; a group can be smoothed only if it can in every graph.

    Args:
        models: The graphs of a bundle, or of one profile, with their weights.
    """
    order: dict[str, None] = {}
    members: dict[str, set[str]] = {}
    norms: dict[frozenset[str], set[tuple[str, ...]]] = {}
    for model in models:
        read_by: dict[ir.Value, list[str]] = {}
        for product in find_products(model):
            order.setdefault(product.name)
            members.setdefault(product.name, {product.name})
            for value in product.activations:
                read_by.setdefault(value, []).append(product.name)
        for value, names in read_by.items():
            union = set().union(*(members[name] for name in names))
            for name in union:
                members[name] = union
            norms.setdefault(frozenset(names), set()).add(_norm_constants(value, len(names)))
    groups: dict[frozenset[str], ProductGroup] = {}
    for name in order:
        key = frozenset(members[name])
        found = norms.get(key, set())
        is_whole = all(part == key for part in norms if part & key) and len(found) == 1
        products = tuple(each for each in order if each in key)
        groups[key] = ProductGroup(products, next(iter(found)) if is_whole else ())
    return list(groups.values())


def smoothing_scales(
    largest: NDArray[np.float64], weights: Sequence[NDArray[np.float32]], migration: float = MIGRATION
) -> NDArray[np.float32]:
    """Return what each channel is divided by, float32 ``(inputs,)``.

    Args:
        largest: Largest absolute value of each channel of the activation, ``(inputs,)``.
        weights: Weights that it is multiplied with, ``(inputs, outputs)`` each.
        migration: How much of an outlier moves into the weights, 0 to 1.
    """
    of_weights = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0).astype(np.float64)
    is_used = (largest > 0) & (of_weights > 0)
    scales = np.ones(len(largest))
    scales[is_used] = largest[is_used] ** migration / of_weights[is_used] ** (1.0 - migration)
    return np.clip(scales, _LEAST, _MOST).astype(np.float32)


def divide_norms(model: ir.Model, scales: Mapping[str, NDArray[np.float32]]) -> None:
    """Divide constants of norms, in place.

    Args:
        model: Graph, with its weights.
        scales: What each constant is divided by, by its name: float32 ``(inputs,)``.
    """
    for node in list(model.graph):
        for index in range(*_INPUTS.get(node.op_type, slice(0)).indices(len(node.inputs))):
            value = node.inputs[index]
            if value is None or value.const_value is None or shared_name(value) not in scales:
                continue
            divided = value.const_value.numpy() / scales[shared_name(value)]
            constant = add_constant(model, f"{value.name}.smooth", ir.tensor(divided.astype(np.float32)))
            node.replace_input_with(index, constant)


def _norm_constants(value: ir.Value, products: int) -> tuple[str, ...]:
    """Return the names of the constants that can take a division of a value's channels; empty = none can."""
    node = value.producer()
    is_read_elsewhere = len(value.uses()) != products or value.is_graph_output()
    if node is None or node.op_type not in _INPUTS or is_read_elsewhere or value.shape is None:
        return ()
    channels = value.shape[-1]
    constants = [
        stored
        for stored in node.inputs[_INPUTS[node.op_type]]
        if stored is not None and stored.const_value is not None
    ]
    is_vector = all(list(stored.const_value.shape.numpy()) == [channels] for stored in constants)  # type: ignore[union-attr]
    if not constants or not is_vector:
        return ()
    if any(len(stored.uses()) != 1 or not is_shared(stored) for stored in constants):
        return ()
    return tuple(shared_name(stored) for stored in constants)
