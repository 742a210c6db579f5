"""Which family a checkpoint is, and which command takes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saccade.export.families.registry import acting_reader, answering_reader
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.errors import CheckpointError


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"model_type": "qwen2_5_vl"}, "found 'qwen2_5_vl'; `saccade export-answering` takes it"),
        ({"model_type": "gpt9"}, r"a family that acts \(openvla, .*\), found 'gpt9' .* nothing here runs"),
        ({"model_type": 3}, r"found none; give the folder of a published"),
    ],
)
def test_what_does_not_act(tmp_path: Path, stated: dict[str, object], message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(stated))
    with pytest.raises(CheckpointError, match=message):
        acting_reader(CheckpointFolder(tmp_path))


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"type": "smolvla"}, "found 'smolvla'; `saccade export` takes it"),
        ({"model_type": "gpt9"}, r"a family that answers \(llava, .*\), found 'gpt9' .* nothing here runs"),
        ({}, r"found none; give the folder of a published"),
    ],
)
def test_what_does_not_answer(tmp_path: Path, stated: dict[str, object], message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(stated))
    with pytest.raises(CheckpointError, match=message):
        answering_reader(CheckpointFolder(tmp_path))
