from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from saccade.export.bundle.tensorrt_rtx import check_tensorrt_rtx
from saccade.export.lowering.products import find_products
from saccade.export.quantisation.few_bits import few_bits_form, rotate_bundle
from saccade.export.quantisation.pipeline import lower_bundle
from saccade.export.quantisation.request import Form, LowerRequest
from saccade.export.quantisation.trajectory import ProfileRunner
from saccade.proto.errors import ExportError
from saccade.proto.manifest import read_manifest
from tests.export.quantisation.conftest import Measured


def form(measured: Measured, scratch: Path, bits: int, **options: Any) -> Form:
    asked = {
        "lowerings": ("int4",),
        "frames": Path("frames"),
        "out": Path("out"),
        "block": 16,
        "rounding": "nearest",
    }
    request = LowerRequest(bundle=measured.bundle, **{**asked, **options})
    records = {name: steps[:3] for name, steps in measured.records.items()}
    return few_bits_form(
        request, measured.manifest, records, bits=bits, scratch=scratch, tell=lambda done, total: None
    )


def test_a_rotated_bundle_does_the_same(measured: Measured, tmp_path: Path) -> None:
    reports = rotate_bundle(measured.bundle, measured.manifest, tmp_path)
    assert set(reports) == set(measured.manifest.graphs)
    for name in ("full", "keep25"):
        (stage,) = measured.manifest.profile(name).stages
        assert reports[stage.graph]["widths"] and reports[stage.graph]["weights"]
        runner = ProfileRunner(tmp_path, measured.manifest, measured.manifest.profile(name))
        judged = measured.ruler.judge(measured.records[name][:4], runner)
        assert judged.worst_share < 1e-4 and judged.same_kept == 1
    own, rotated = (find_products(ir.load(folder / stage.graph)) for folder in (measured.bundle, tmp_path))
    largest = max(
        np.abs(a.weight - b.weight).max()
        for a, b in zip(own, rotated[: len(own)], strict=True)
        if a.shape == b.shape
    )
    assert largest > 0.01, "other weights"


@pytest.mark.parametrize(("bits", "least", "most"), [(4, -8, 7), (3, -4, 3)])
def test_levels_are_those_of_the_bits(
    measured: Measured, tmp_path: Path, bits: int, least: int, most: int
) -> None:
    made = form(measured, tmp_path / "scratch", bits)
    assert made.settings["bits"] == bits and made.settings[f"int{bits}"]
    (stage,) = measured.manifest.profile("keep25").stages
    model = ir.load(measured.bundle / stage.graph)
    made.apply(stage.graph, model)
    stored = [
        value.const_value for value in model.graph.initializers.values() if value.dtype == ir.DataType.INT4
    ]
    levels = np.unique(np.concatenate([tensor.numpy().astype(np.int8).ravel() for tensor in stored]))  # type: ignore[union-attr]
    assert least <= levels.min() and levels.max() == most and len(levels) >= most - least
    if find_spec("tensorrt_rtx_bindings"):
        ir.save(model, tmp_path / "step.onnx", external_data="weights")
        assert check_tensorrt_rtx(tmp_path / "step.onnx", ()).layers > 0


def test_fewer_bits_after_the_rotation_are_written_with_nothing_left_behind(
    measured: Measured, frames_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    request = LowerRequest(
        bundle=measured.bundle,
        out=out,
        lowerings=("int3",),
        frames=frames_file,
        block=16,
        rounding="nearest",
        rotate=True,
    )
    report = lower_bundle(request, lambda what: None)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (lowering,) = read_manifest(out).lowerings
    assert lowering.settings["passes"] == ["rotation", "int4"] and lowering.settings["bits"] == 3
    assert set(lowering.settings["rotation"]) == set(lowering.graphs)
    for found in report.judgements["int3"].values():
        assert 0 < found.worst_share < np.inf
    for graph in lowering.graphs.values():
        places = {
            value.const_value.location
            for value in ir.load(out / graph).graph.initializers.values()
            if isinstance(value.const_value, ir.ExternalTensor)
        }
        assert places == {"weights.int3.bin"}


def test_a_block_that_no_weight_has_is_refused(measured: Measured, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="a multiple of 999, found none: choose another --block"):
        form(measured, tmp_path, 4, block=999)
