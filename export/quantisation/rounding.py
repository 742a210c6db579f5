"""Weights in few bits, rounded by one of three rules: to the nearest, GPTQ, or RSQ (GPTQ by what matters)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from saccade.export.lowering.gptq import RoundedWeight, gptq, hessian, round_to_nearest
from saccade.export.lowering.products import Product, find_products
from saccade.export.lowering.token_importance import attention_of, importances
from saccade.export.quantisation.activations import as_rows, observe
from saccade.export.quantisation.trajectory import StepRecord
from saccade.proto.manifest import Manifest, StageSpec

NEAREST, GPTQ, RSQ = "nearest", "gptq", "rsq"
ROUNDINGS = (NEAREST, GPTQ, RSQ)
_PART = 32
"""Products whose activations are held at a time."""

Tell = Callable[[int, int], None]


def rounded_weights(
    bundle: Path,
    manifest: Manifest,
    records: Mapping[str, Sequence[StepRecord]],
    *,
    rounding: str,
    bits: int,
    block: int,
    tell: Tell = lambda done, total: None,
) -> dict[str, RoundedWeight]:
    """Return the weights of a bundle in few bits, by the name of their product.

    A weight whose inputs are no multiple of the block is left out. What calibrates is seen by all profiles: what
    survives in them counts as often as it was computed.

    Args:
        bundle: Folder of the bundle.
        manifest: Its manifest.
        records: Control steps of the canonical graphs on calibration frames, by profile.
        rounding: One of :data:`ROUNDINGS`.
        bits: Bits of a value.
        block: Inputs that share a scale.
        tell: Told how many weights are done, and how many there are in all.

    Raises:
        ExportError: A weight is not finite, or a Hessian cannot be inverted.
    """
    weights: dict[str, Product] = {}
    for graph in manifest.graphs:
        for product in find_products(ir.load(bundle / graph)):
            if product.shape[0] % block == 0:
                weights.setdefault(product.name, product)
    found: dict[str, RoundedWeight] = {}
    names = list(weights)
    for start in range(0, len(names), _PART):
        part = names[start : start + _PART]
        curvatures = {} if rounding == NEAREST else _hessians(bundle, manifest, records, set(part), rounding)
        for name in part:
            weight = weights[name].weight
            if name in curvatures:
                found[name] = gptq(weight, curvatures[name], bits=bits, block=block)
            else:  # nearest is asked for, or nothing was ever multiplied with it
                found[name] = round_to_nearest(weight, bits=bits, block=block)
            tell(len(found), len(names))
    return found


def _hessians(
    bundle: Path,
    manifest: Manifest,
    records: Mapping[str, Sequence[StepRecord]],
    names: set[str],
    rounding: str,
) -> dict[str, NDArray[np.float64]]:
    """Return the sum of the Hessians of products over profiles, control steps and places."""
    sums: dict[str, NDArray[np.float64]] = {}
    for profile in manifest.profiles:
        for stage in profile.stages if profile.name in records else ():
            _add_hessians(sums, bundle, stage, records[profile.name], names, rounding)
    return sums


def _add_hessians(
    sums: dict[str, NDArray[np.float64]],
    bundle: Path,
    stage: StageSpec,
    records: Sequence[StepRecord],
    names: set[str],
    rounding: str,
) -> None:
    graph = bundle / stage.graph
    model = ir.load(graph)
    products = find_products(model)
    attention = attention_of(model, products) if rounding == RSQ else {}
    places = [
        (product.name, value.name or "", attention.get((product.name, place)))
        for product in products
        for place, value in enumerate(product.activations)
        if product.name in names
    ]
    values = {value for _, value, _ in places}
    values |= {seen.name or "" for _, _, seen in places if seen is not None}
    for step in observe(graph, stage, records, sorted(values)):
        known: dict[tuple[str, ir.Value | None], NDArray[np.float64]] = {}
        for name, value, seen in places:
            if (value, seen) not in known:  # several weights are multiplied with the same
                rows = as_rows(step[value])
                matters = None if seen is None else importances(step[seen.name or ""])
                known[value, seen] = hessian(rows, matters) * len(rows)
            sums[name] = sums.get(name, 0.0) + known[value, seen]
