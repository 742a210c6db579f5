"""A measurement says where it was made, and nothing about whose machine it was."""

from __future__ import annotations

import json
import platform

from saccade.sim.provenance import provenance


def test_names_machine_versions_and_command() -> None:
    found = json.loads(json.dumps(provenance()))
    assert found["machine"]["cpu"] and found["machine"]["cores"] >= 1
    assert found["versions"]["python"] == platform.python_version()
    assert {"saccade", "mujoco", "onnxruntime", "numpy"} <= set(found["versions"])
    assert "/" not in found["command"][0]
    assert platform.node() not in json.dumps(found["machine"])
