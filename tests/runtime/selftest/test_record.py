"""The file of a self-test: what it must hold, and what its reader refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from saccade.proto.errors import FileError, InputError
from saccade.runtime.selftest.record import (
    ENGINE_PARTS,
    SCHEMA,
    SCHEMA_VERSION,
    Part,
    SelfTest,
    Status,
    read_selftest,
    write_selftest,
)

DONE = Part("doctor", None, Status.DONE, 1.5, result=[{"subject": "python", "is_ok": True}])
SKIPPED = tuple(Part(name, "tensorrt", Status.SKIPPED, 0.0, message="no GPU") for name in ENGINE_PARTS[1:])
FAILED = Part("build", "tensorrt", Status.FAILED, 2.0, "engine", "refused")
FOUND = SelfTest(
    schema=SCHEMA,
    schema_version=SCHEMA_VERSION,
    measured="2026-12-01T12:00:00+00:00",
    command=("saccade", "selftest"),
    is_quick=False,
    machine={"cpu": "some", "cores": 2},
    hardware={"gpu": {"none": "no driver"}},
    versions={"saccade": "0.1.0"},
    bundle={"name": "tiny"},
    state={"before": {}, "after": {}},
    other_cores=None,
    is_busy=True,
    parts=(DONE, FAILED, *SKIPPED),
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "selftest.json"
    write_selftest(path, FOUND)
    assert read_selftest(path) == FOUND
    assert json.loads(path.read_text())["parts"][1]["status"] == "failed"
    assert FOUND.has_failed and not replace(FOUND, parts=(DONE,)).has_failed


def test_every_part_has_a_line_with_what_became_of_it() -> None:
    lines = list(FOUND.lines())
    assert len(lines) == 5 and lines[0].startswith("done    doctor")
    assert "tensorrt: build (2 s): refused [engine]" in lines[1] and lines[2].endswith(": no GPU")


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (Status.FAILED, "", "why"),
        (Status.FAILED, "engine", ""),
        (Status.SKIPPED, "", ""),
        (Status.SKIPPED, "engine", "why"),
        (Status.DONE, "", "why"),
    ],
)
def test_a_part_that_hides_what_became_of_it_is_refused(status: Status, code: str, message: str) -> None:
    with pytest.raises(InputError, match="expected a code where it failed and a message"):
        Part("bench", "ort-cpu", status, 1.0, code, message)


def change(**keys: Any) -> str:
    return json.dumps({**json.loads(_TEXT), **keys})


_TEXT = json.dumps(
    {
        "schema": SCHEMA, "schema_version": SCHEMA_VERSION, "measured": "", "command": [], "is_quick": True,
        "machine": {}, "hardware": {}, "versions": {}, "bundle": {}, "state": {}, "other_cores": 0.1, "is_busy": False,
        "parts": [{"name": "doctor", "engine": None, "status": "done", "seconds": 1}],
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (change(schema_version=2, more="of it"), "expected version 1, found 2"),
        (change(schema="other"), "expected saccade-selftest of version 1, found other"),
        (change(parts=[]), "expected every part once"),
        (change(parts=json.loads(_TEXT)["parts"] * 2), "expected every part once"),
        (change(parts=[{"name": "doctor", "engine": None, "status": "fine", "seconds": 1}]), "one of 'done'"),
        (change(parts=[{"name": "doctor", "engine": None, "status": "skipped", "seconds": 1}]), "a message"),
        (change(extra=1), "extra: unknown key"),
        ("[]", "expected an object"),
        ('{"a": NaN}', "expected JSON"),
        ("no JSON", "expected JSON"),
    ],
)
def test_what_is_no_self_test_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sent.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"sent\.json: expected what `saccade selftest` writes") as raised:
        read_selftest(path)
    assert message in raised.value.message


def test_a_good_one_is_not_refused(tmp_path: Path) -> None:
    path = tmp_path / "sent.json"
    path.write_text(_TEXT)
    assert read_selftest(path).other_cores == 0.1
    with pytest.raises(FileError):
        read_selftest(tmp_path / "none.json")
