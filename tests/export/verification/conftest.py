"""The interpreter that has the published classes, and lerobot's tiny checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.export.families.lerobot_reference import ROOT, interpreter


@pytest.fixture
def reference_python(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The interpreter of ``.venv-lerobot``: lerobot, transformers, timm and torchvision, but no saccade."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/lerobot/startup"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return interpreter("saccade verify")


@pytest.fixture
def lerobot_checkpoint(
    lerobot_written: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], Path]:
    """A policy's checkpoint whose class can be loaded with the sizes that are fixed in code."""

    def folder(policy: str) -> Path:
        written = lerobot_written(policy)
        sizes = written / "dimensions.json"
        monkeypatch.setenv("SACCADE_TINY", str(sizes) if sizes.is_file() else "")
        backbone = written / "backbone_config.json"
        if backbone.is_file():
            shutil.copyfile(backbone, written / "backbone" / "config.json")
        return written

    return folder
