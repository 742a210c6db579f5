"""One exchange from folder to folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from saccade.export.verification.reference.run import NOT_INSTALLED, main


def test_a_library_that_is_missing_is_told(tmp_path: Path) -> None:
    """The environment of the tests has no timm."""
    (tmp_path / "request.json").write_text(json.dumps({"program": "prismatic_models", "libraries": ["timm"]}))
    np.savez(tmp_path / "given.npz", images=np.zeros(1))
    assert main(tmp_path) == NOT_INSTALLED
    assert "timm" in json.loads((tmp_path / "about.json").read_text())["not_installed"]
    assert not (tmp_path / "told.npz").exists()
