"""What one kind of bundle can do, all can: the same receipts, a tolerance, TensorRT's opinion, nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saccade.export.answer.parity import AnsweringTolerance
from saccade.export.answer.pipeline import AnsweringRequest, export_answering
from saccade.export.bundle.recipe import BundleReport
from saccade.export.control.parity import ParityTolerance
from saccade.export.control.pipeline import ExportRequest, export_bundle
from saccade.export.scorer.parity import ScoreTolerance
from saccade.export.scorer.pipeline import ScorerRequest, export_scorer
from saccade.proto.errors import ReceiptError
from saccade.runtime.bundle import Bundle
from tests.export.answer.test_pipeline import write_tokenizer
from tests.export.families.llava.test_llava import PROCESSOR, reference
from tests.export.families.published import save
from tests.export.parsed_graphs import HAS_TENSORRT_RTX, PARSED

KINDS = ("control", "answer", "scorer")
NOTHING_PASSES = {
    "control": ParityTolerance(actions=-1.0),
    "answer": AnsweringTolerance(logits=-1.0),
    "scorer": ScoreTolerance(scores=-1.0),
}
Export = Callable[..., BundleReport[Any]]


@pytest.fixture(scope="module")
def answering_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save(reference(), tmp_path_factory.mktemp("published") / "llava-tiny", PROCESSOR)
    write_tokenizer(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "pad_token_id": 0}))
    return folder


@pytest.fixture
def export(checkpoint_path: Path, answering_path: Path) -> Export:
    def run(kind: str, out: Path, **changes: Any) -> BundleReport[Any]:
        acting = {"checkpoint": checkpoint_path, "out": out, **changes}
        if kind == "control":
            return export_bundle(
                ExportRequest(**acting, policy="keep_all", keep_ratios=(1.0,)), lambda what: None
            )
        if kind == "scorer":
            return export_scorer(ScorerRequest(**acting), lambda what: None)
        asked = {"max_text_tokens": 12, "max_new_tokens": 4, "questions": 1}
        answering = {"checkpoint": answering_path, "out": out, **asked, **changes}
        return export_answering(AnsweringRequest(**answering), lambda what: None)

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_same_receipts(export: Export, tmp_path: Path, kind: str) -> None:
    report = export(kind, tmp_path / "bundle")
    receipts = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "bundle/receipts").iterdir()}
    assert set(receipts) == {"accounting", "export", "lint", "parity"}
    assert set(receipts["export"]) == {"seconds", "bytes", "parameters", "never_varied", "versions"}
    assert sum(receipts["export"]["parameters"].values()) > 0
    assert {"load checkpoint", "accounting", "full: capture"} <= set(receipts["export"]["seconds"])
    assert set(receipts["parity"]) == {"tolerance", "weights", "profiles"}
    assert set(receipts["parity"]["profiles"]) == set(receipts["accounting"]) == {"full"}
    assert receipts["accounting"] == report.accounting
    assert set(receipts["lint"]) == set(report.lint)
    graphs = [path.name for path in (tmp_path / "bundle/graphs").glob("*.onnx")]
    assert len(receipts["lint"]) == len(graphs) and set(graphs) <= set(receipts["export"]["bytes"])
    assert Bundle.open(tmp_path / "bundle").manifest == report.manifest
    if HAS_TENSORRT_RTX:
        assert PARSED[-len(graphs) :] == list(report.lint)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_judged_by_its_tolerance(export: Export, tmp_path: Path, kind: str) -> None:
    with pytest.raises(ReceiptError, match="disagree"):
        export(kind, tmp_path / "bundle", tolerance=NOTHING_PASSES[kind])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.tensorrt_rtx
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_shown_to_tensorrt_rtx(export: Export, tmp_path: Path, kind: str) -> None:
    report = export(kind, tmp_path / "bundle", checks_tensorrt_rtx=True)
    receipt = json.loads((tmp_path / "bundle/receipts/tensorrt_rtx.json").read_text())
    assert set(receipt) == set(report.lint) == set(report.engines)
    assert all(plan["bytes"] > 0 for graph in receipt.values() for plan in graph["plans"].values())
