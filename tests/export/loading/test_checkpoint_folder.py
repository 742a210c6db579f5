"""A checkpoint's files are opened once, and what is wrong with one is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saccade.export.families.registry import load_checkpoint
from saccade.export.inspection.checkpoint import inspect_checkpoint
from saccade.export.loading import checkpoint_folder, json_fields
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.errors import CheckpointError
from saccade.proto.inspection import InspectionRequest
from tests.export.inspection.tiny_checkpoints import WRITERS


def test_a_file_is_parsed_once(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "x"}))
    folder = CheckpointFolder(tmp_path)
    first = folder.config
    (tmp_path / "config.json").write_text("{")
    assert folder.read("config.json") is first and folder.fields("config.json").take("model_type", str) == "x"


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("models--llava-hf--llava-1.5-7b-hf/snapshots/8c85e9a4d626b7b908448be32c1ba5ad79b95e76", "llava-1.5-7b-hf"),
        ("models--gpt2/snapshots/607a30d783dfa663caf39e06633721c8d4cfcd7e", "gpt2"),
        ("models--org--name/files/main", "main"),
        ("data--org--name/snapshots/main", "main"),
        ("my-model", "my-model"),
    ],
)  # fmt: skip
def test_a_model_in_the_hubs_cache_has_its_name(tmp_path: Path, place: str, name: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    assert CheckpointFolder(tmp_path / place).name == name


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the JSON files that were opened."""
    names: list[str] = []

    def read(folder: Path, name: str) -> dict[str, Any]:
        names.append(name)
        return json_fields.read_object(folder, name)

    monkeypatch.setattr(checkpoint_folder, "read_object", read)
    return names


def test_nobody_opens_a_file_twice_to_load(checkpoint_path: Path, opened: list[str]) -> None:
    load_checkpoint(checkpoint_path)
    assert "config.json" in opened and len(opened) == len(set(opened))


@pytest.mark.usefixtures("tiny_variants")
@pytest.mark.parametrize("family", WRITERS)
def test_nobody_opens_a_file_twice_to_inspect(
    written: Callable[[str], Path], opened: list[str], family: str
) -> None:
    size = (27, 43) if family.startswith("qwen") else None
    inspect_checkpoint(written(family), InspectionRequest(image_size=size, reads_weights=family != "smolvla"))
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
