"""The command: a model in, a table and a receipt out; what disagrees is an error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from saccade.export.answer.pipeline import AnsweringRequest, export_answering
from saccade.export.commands.verify import verify_command
from saccade.proto.errors import ExportError, ReceiptError
from tests.export.verification.reference.test_answering_models import llava


def verify(*arguments: str) -> Result:
    return CliRunner().invoke(verify_command, arguments)


@pytest.mark.slow
def test_a_bundle_agrees_and_too_narrow_a_tolerance_is_an_error(tmp_path: Path) -> None:
    """LLaVA in the interpreter that runs the tests: its class needs nothing that is not there."""
    checkpoint, bundle, receipt = llava(tmp_path / "llava"), tmp_path / "bundle", tmp_path / "receipt.json"
    request = AnsweringRequest(checkpoint=checkpoint, out=bundle, policy="keep_all", keep_ratios=(1.0,))
    export_answering(request, lambda what: None)
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 30, 44, 3), dtype=np.uint8)
    np.savez(tmp_path / "frames.npz", images=images, instruction=np.array(["w3 w4", "w9"]))
    frames = ["--frames", str(tmp_path / "frames.npz")]
    found = verify(str(bundle), "--checkpoint", str(checkpoint), *frames)
    assert found.exit_code == 0, found.output
    said = " ".join(found.stdout.split())
    assert "llava (ONNX Runtime) against transformers.models.llava.modeling_l" in said
    assert "agrees" in said and "DIFFERS" not in said
    strict = verify(str(checkpoint), *frames, "--tolerance", "0", "--out", str(receipt), "--json")
    assert isinstance(strict.exception, ReceiptError)
    assert "llava: expected every stage within 0 of transformers" in strict.exception.message
    written = json.loads(receipt.read_text())
    assert json.loads(strict.stdout) == written
    assert (written["agrees"], written["frames"], written["source"]) == (False, 2, "recorded")
    exact = {stage["stage"]: stage["agrees"] for stage in written["stages"]}
    assert exact["prompt tokens"] and exact["next tokens"] and not exact["logits"]
    assert max(stage["relative"] for stage in written["stages"]) < 1e-4


def test_a_bundle_and_its_checkpoint_go_together(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    alone = verify(str(tmp_path / "bundle"), "--checkpoint", str(tmp_path))
    assert alone.exit_code == 2 and "has no manifest.json" in alone.output
    (tmp_path / "bundle" / "manifest.json").touch()
    alone = verify(str(tmp_path / "bundle"))
    assert alone.exit_code == 2 and "--checkpoint PATH" in alone.output


@pytest.mark.parametrize(
    ("size", "message"), [("640", "expected width and height"), ("0x4", "expected width")]
)
def test_a_size_that_is_none_is_named(tmp_path: Path, size: str, message: str) -> None:
    found = verify(str(tmp_path), "--image-size", size)
    assert found.exit_code == 2 and message in found.output


def test_what_has_no_published_class_is_named(checkpoint_path: Path) -> None:
    found = verify(str(checkpoint_path))
    assert isinstance(found.exception, ExportError)
    assert "Saccade's own layout, which no other class reads" in found.exception.message
