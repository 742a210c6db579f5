"""The float16 forms of a bundle's graphs: what recorded frames show to be too large for float16 stays in float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from saccade.export.lowering.float16 import lower_to_float16
from saccade.export.lowering.lint import lint
from saccade.export.lowering.opset23 import fuse_to_opset23
from saccade.export.quantisation.ranges import beyond, largest_values
from saccade.export.quantisation.request import Form
from saccade.export.quantisation.trajectory import StepRecord
from saccade.proto.manifest import Manifest
from saccade.proto.tensor_names import ACTIONS


def half_form(
    bundle: Path, manifest: Manifest, records: Mapping[str, Sequence[StepRecord]], *, is_fused: bool
) -> Form:
    """Return the float16 form of a bundle.

    Args:
        bundle: Folder of the bundle.
        manifest: Its manifest.
        records: Control steps of the canonical graphs on calibration frames, by profile.
        is_fused: Write norms, rotary embedding and attention as the operators of opset 23; otherwise the form is one
            that TensorRT 10.3 takes, and is checked for that.
    """

    def prepare(model: ir.Model) -> None:
        if is_fused:
            fuse_to_opset23(model)

    results: dict[str, set[str]] = {}
    ranges: dict[str, dict[str, float]] = {}
    for profile in manifest.profiles:
        for stage in profile.stages:
            results[stage.graph] = {port for port, name in stage.outputs.items() if name == ACTIONS}
            ranges[stage.graph] = largest_values(
                bundle / stage.graph, stage, records[profile.name], results[stage.graph], prepare
            )
    wide = {graph: beyond(found) for graph, found in ranges.items()}

    def apply(graph: str, model: ir.Model) -> None:
        prepare(model)
        lower_to_float16(model, results=results[graph], wide=wide[graph])
        if not is_fused:
            lint(model, graph)

    settings = {
        "passes": ["opset23", "float16"] if is_fused else ["float16"],
        "float16": {graph: len(found) - len(wide[graph]) for graph, found in ranges.items()},
        "wide": {graph: found for graph, found in wide.items() if found},
        "is_linted": not is_fused,
    }
    return Form(settings, apply)
