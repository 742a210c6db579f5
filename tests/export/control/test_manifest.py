"""What the manifest tells the host of a policy."""

from __future__ import annotations

import pytest

from saccade.export.bundle.manifest_parts import policy_spec
from saccade.policies.base import Grid, ModelShape
from saccade.policies.registry import build_policy
from saccade.proto.policy_spec import GateSpec

SHAPE = ModelShape(layers=5, grid=Grid(views=2, rows=3, columns=3))


@pytest.mark.parametrize(
    ("name", "options", "gate"),
    [
        ("adp", {}, GateSpec(window=3, look_back=2)),
        ("adp", {"window": 4, "look_back": 1}, GateSpec(4, 1)),
        ("adp", {"gated": False}, None),
        ("fastv", {}, None),
    ],
)
def test_the_host_is_told_of_the_gate(name: str, options: dict[str, object], gate: GateSpec | None) -> None:
    assert policy_spec(build_policy(name, options, SHAPE)).gate == gate
