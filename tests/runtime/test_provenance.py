"""A measurement says where it was made, and nothing about whose machine it was."""

from __future__ import annotations

import json
import platform

import pytest

from saccade.runtime.provenance import provenance


def test_names_machine_versions_and_command() -> None:
    found = json.loads(json.dumps(provenance()))
    assert found["machine"]["cpu"] and found["machine"]["cores"] >= 1
    assert found["versions"]["python"] == platform.python_version()
    assert {"saccade", "mujoco", "onnxruntime", "numpy"} <= set(found["versions"])
    assert "/" not in found["command"][0]


def test_command_keeps_no_folder_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sys.argv", ["/opt/x/closed_loop.py", "--bundle", "ours=/srv/models/b", "--out", "results/a.json"]
    )
    assert provenance()["command"] == ["closed_loop.py", "--bundle", "ours=b", "--out", "results/a.json"]


def test_names_no_host() -> None:
    found = json.loads(json.dumps(provenance()))
    assert platform.node() not in json.dumps(found["machine"])
