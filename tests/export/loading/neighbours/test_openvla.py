"""Models that state OpenVLA's ``model_type``, by what little tells them from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.neighbours.openvla import openvla_neighbour


def said(folder: Path, **config: object) -> str | None:
    (folder / "config.json").write_text(json.dumps({"model_type": "openvla", **config}))
    return openvla_neighbour(CheckpointFolder(folder))


@pytest.mark.parametrize(("code", "is_oft"), [("NUM_ACTIONS_CHUNK", True), ("predict_action", False)])
def test_code_tells_oft_from_openvla(tmp_path: Path, code: str, *, is_oft: bool) -> None:
    (tmp_path / "modeling_prismatic.py").write_text(code)
    found = said(tmp_path)
    assert (found is not None and "modeling_prismatic.py says that this is OpenVLA-OFT" in found) == is_oft


def test_with_its_head_it_is_oft_itself(tmp_path: Path) -> None:
    (tmp_path / "action_head--1_checkpoint.pt").write_bytes(b"not read")
    assert said(tmp_path, num_images_in_input=2) is None


def test_added_tokens_tell_univla(tmp_path: Path) -> None:
    assert said(tmp_path) is None
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<ACT_0>": 32001}))
    assert "this is UniVLA" in (said(tmp_path) or "")


def test_another_model_type_is_not_looked_at(tmp_path: Path) -> None:
    assert said(tmp_path, model_type="llava", unnorm_key="x") is None
