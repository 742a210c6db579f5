"""What an operator is told of the machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from saccade.runtime.doctor import examine


@pytest.mark.parametrize("build", ["onnxruntime_gpu", "onnxruntime_openvino"])
def test_a_build_of_onnx_runtime_under_another_name_is_an_installation(
    build: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / f"{build}-1.23.0.dist-info"
    metadata.mkdir()
    name = build.replace("_", "-")
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.23.0\n")
    (metadata / "RECORD").write_text("onnxruntime/__init__.py,,\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])  # alone: what is imported already stays so
    findings = {finding.subject: finding for finding in examine(None, "127.0.0.1:0")}
    assert findings["onnxruntime"].is_ok
    assert findings["onnxruntime"].detail == f"1.23.0, as {name}"
    assert findings["tokenizers"].detail.startswith("not installed: pip install")
