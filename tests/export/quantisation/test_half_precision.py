from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from saccade.export.bundle.tensorrt_rtx import check_tensorrt_rtx
from saccade.export.quantisation import half_precision
from saccade.export.quantisation.half_precision import half_form
from saccade.export.quantisation.trajectory import ProfileRunner
from tests.export.quantisation.conftest import Measured


@pytest.fixture(scope="module", params=[False, True])
def forms(measured: Measured, request: pytest.FixtureRequest) -> dict[str, ir.Model]:
    """The graphs in float16, without and with the operators of opset 23."""
    records = {profile.name: measured.records["full"][:2] for profile in measured.manifest.profiles}
    form = half_form(measured.bundle, measured.manifest, records, is_fused=request.param)
    models = {graph: ir.load(measured.bundle / graph) for graph in measured.manifest.graphs}
    for graph, model in models.items():
        form.apply(graph, model)
    return models


def test_actions_and_kept_tokens_stay_what_they_were(measured: Measured, forms: dict[str, ir.Model]) -> None:
    for name in ("full", "keep25"):
        runner = ProfileRunner(measured.bundle, measured.manifest, measured.manifest.profile(name), forms)
        judged = measured.ruler.judge(measured.records[name][:4], runner)
        assert 0 < judged.worst_share < 0.01 and judged.overlap_min == 1


@pytest.mark.tensorrt_rtx
def test_tensorrt_rtx_takes_every_graph(forms: dict[str, ir.Model], tmp_path: Path) -> None:
    for graph, model in forms.items():
        path = tmp_path / Path(graph).name
        ir.save(model.clone(), path, external_data="weights")
        assert check_tensorrt_rtx(path, ()).layers > 0


def test_what_frames_show_to_be_large_is_said_and_stays_in_float32(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit far below float16's own stands for a model with large values."""

    def larger_half(found: dict[str, float]) -> dict[str, float]:
        limit = np.median(list(found.values()))
        return {name: value for name, value in found.items() if value > limit}

    monkeypatch.setattr(half_precision, "beyond", larger_half)
    records = {profile.name: measured.records["full"][:2] for profile in measured.manifest.profiles}
    form = half_form(measured.bundle, measured.manifest, records, is_fused=False)
    for graph in measured.manifest.graphs:
        model = ir.load(measured.bundle / graph)
        form.apply(graph, model)
        wide = form.settings["wide"][graph]
        assert wide and form.settings["float16"][graph] > 0
        half = {
            value.name for node in model.graph for value in node.outputs if value.dtype == ir.DataType.FLOAT16
        }
        assert half and not half & set(wide)
