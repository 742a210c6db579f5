"""Steps of lerobot's processors are found by any of their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.lerobot_processors import (
    POSTPROCESSOR,
    PREPROCESSOR,
    processor_steps,
    warn_of_unknown_steps,
)
from saccade.proto.errors import CheckpointError


def test_steps_are_found_by_name(tmp_path: Path) -> None:
    steps = [{"registry_name": name, "config": {"at": at}} for at, name in enumerate("abca")]
    (tmp_path / PREPROCESSOR).write_text(json.dumps({"steps": [*steps, "noise", {}]}))
    found = processor_steps(CheckpointFolder(tmp_path), PREPROCESSOR, "a", "c")
    assert [step.child("config").take("at", int) for step in found] == [0, 2, 3]
    with pytest.raises(CheckpointError, match=r"policy_preprocessor.json: b: expected 'state_file'"):
        processor_steps(CheckpointFolder(tmp_path), PREPROCESSOR, "b")[0].take("state_file", str)


def test_what_is_no_processor_is_refused(tmp_path: Path) -> None:
    (tmp_path / PREPROCESSOR).write_text("[]")
    with pytest.raises(CheckpointError, match="expected a JSON object, found list"):
        processor_steps(CheckpointFolder(tmp_path), PREPROCESSOR, "a")


def test_a_step_that_nothing_does_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    known = {"registry_name": "to_batch_processor"}
    (tmp_path / PREPROCESSOR).write_text(json.dumps({"steps": [known, {"registry_name": "truncate_state"}]}))
    (tmp_path / POSTPROCESSOR).write_text(json.dumps({"steps": [known]}))
    warn_of_unknown_steps(CheckpointFolder(tmp_path))
    (said,) = caplog.messages
    assert said == f"{PREPROCESSOR}: steps that nothing here does, do them on the robot: truncate_state"
