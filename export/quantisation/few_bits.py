"""The forms of a bundle's graphs with weights of 4 or 3 bits: rounded as they are, or rotated before.

ONNX has no type of 3 bits. Both widths are stored as int4, which ONNX Runtime and TensorRT read; of its sixteen values
a weight of 3 bits uses eight. So it takes the memory of 4 bits and loses more: it is there to measure what 3 bits cost.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import onnx_ir as ir

from saccade.export.lowering.int4 import lower_to_int4
from saccade.export.lowering.products import find_products
from saccade.export.lowering.rotation import rotate_residual_stream
from saccade.export.lowering.shared_weights import SharedWeights
from saccade.export.quantisation.request import Form, LowerRequest
from saccade.export.quantisation.rounding import Tell, rounded_weights
from saccade.export.quantisation.trajectory import StepRecord
from saccade.proto.errors import ExportError
from saccade.proto.manifest import Manifest


def few_bits_form(
    request: LowerRequest,
    manifest: Manifest,
    records: Mapping[str, Sequence[StepRecord]],
    *,
    bits: int,
    scratch: Path,
    tell: Tell,
) -> Form:
    """Return a form with weights in few bits.

    Args:
        request: What is asked for.
        manifest: Manifest of the bundle.
        records: Control steps of the canonical graphs on calibration frames, by profile.
        bits: Bits of a value, 3 or 4.
        scratch: Folder for rotated graphs and all their weights; it has to stay until the form is written.
        tell: Told how many weights are done, and how many there are in all.

    Raises:
        ExportError: No weight can be rounded in such blocks, or the model cannot be rotated.
    """
    source, turned = request.bundle, {}
    if request.rotate:
        source = scratch
        turned = rotate_bundle(request.bundle, manifest, scratch)
    rounded = rounded_weights(
        source, manifest, records, rounding=request.rounding, bits=bits, block=request.block, tell=tell
    )
    if not rounded:
        raise ExportError(
            f"expected weights whose inputs are a multiple of {request.block}, found none: choose another --block."
        )
    products = {
        product.name: product.shape
        for graph in manifest.graphs
        for product in find_products(ir.load(source / graph))
    }
    settings = {
        "passes": ["rotation", "int4"] if request.rotate else ["int4"],
        "rounding": request.rounding,
        "bits": bits,
        "block": request.block,
        **({"rotation": turned} if request.rotate else {}),
        f"int{bits}": sorted(rounded),
        "float32": {
            name: f"{shape[0]} inputs, no multiple of {request.block}"
            for name, shape in products.items()
            if name not in rounded
        },
        "is_linted": False,
    }

    def apply(graph: str, model: ir.Model) -> None:
        lower_to_int4(model, rounded)
        if request.rotate:
            _take_along(model)

    return Form(settings, apply, source)


def rotate_bundle(bundle: Path, manifest: Manifest, folder: Path) -> dict[str, dict[str, object]]:
    """Write the rotated graphs of a bundle to a folder, in float32, and return what was rotated in each.

    Args:
        bundle: Folder of the bundle.
        manifest: Its manifest.
        folder: Folder that gets the graphs, and all their weights in a file of their own.

    Raises:
        ExportError: A graph cannot be rotated.
    """
    (parent,) = {os.path.dirname(graph) for graph in manifest.graphs}
    (folder / parent).mkdir(parents=True, exist_ok=True)
    reports: dict[str, dict[str, object]] = {}
    with SharedWeights(folder / parent) as weights:
        for graph in manifest.graphs:
            model = ir.load(bundle / graph)
            reports[graph] = asdict(rotate_residual_stream(model))
            _take_along(model)
            weights.adopt(model)
            ir.save(model, folder / graph)
    return reports


def _take_along(model: ir.Model) -> None:
    """Have the weights that lie in a file written again to the next one, one by one."""
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value = _read_anew(value.const_value)


def _read_anew(tensor: ir.ExternalTensor) -> ir.LazyTensor:
    return ir.LazyTensor(
        lambda: ir.tensor(tensor.numpy()), tensor.dtype, ir.Shape(tensor.shape.numpy()), name=tensor.name
    )
