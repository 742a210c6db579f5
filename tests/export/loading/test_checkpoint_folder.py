"""A checkpoint's files are opened once, and what is wrong with one is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from saccade.export.families.registry import load_checkpoint
from saccade.export.inspection.checkpoint import inspect_checkpoint
from saccade.export.loading import checkpoint_folder, json_fields
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.errors import CheckpointError
from saccade.proto.inspection import InspectionRequest


def test_a_file_is_parsed_once(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "x"}))
    folder = CheckpointFolder(tmp_path)
    first = folder.config
    (tmp_path / "config.json").write_text("{")
    assert folder.read("config.json") is first and folder.fields("config.json").take("model_type", str) == "x"


@pytest.mark.parametrize(
    "reads", [load_checkpoint, lambda path: inspect_checkpoint(path, InspectionRequest())]
)
def test_nobody_opens_a_file_twice(
    checkpoint_path: Path, monkeypatch: pytest.MonkeyPatch, reads: Any
) -> None:
    opened: list[str] = []

    def read_object(folder: Path, name: str) -> dict[str, Any]:
        opened.append(name)
        return json_fields.read_object(folder, name)

    monkeypatch.setattr(checkpoint_folder, "read_object", read_object)
    reads(checkpoint_path)
    assert "config.json" in opened and len(opened) == len(set(opened))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, r"expected config\.json in .*/, found none"),
        ("config.json", "[]", r"config\.json: expected a JSON object, found list"),
        ("tokenizer.json", None, r"expected tokenizer\.json in .*/, found none; write it with"),
        ("tokenizer.json", "{}", r"tokenizer\.json: expected a tokenizer file, found: "),
    ],
)
def test_what_is_missing_or_broken_is_named(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    folder = CheckpointFolder(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        _ = folder.config if name == "config.json" else folder.tokenizer


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a checkpoint folder, found none at"):
        CheckpointFolder(tmp_path / "none")
