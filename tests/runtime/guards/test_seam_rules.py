from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from saccade.proto.errors import LimitsError
from saccade.proto.manifest import Manifest, read_manifest
from saccade.runtime.guards.seam_rules import SeamRules
from saccade.runtime.motion.operator_limits import OperatorLimits


@pytest.fixture
def manifest(tiny: Path) -> Manifest:
    return read_manifest(tiny)


def test_each_session_gets_its_own_limiter(manifest: Manifest) -> None:
    rules = SeamRules(manifest)
    assert rules.limiter() is not None and rules.limiter() is not rules.limiter()
    assert rules.operator_json == ""


def test_an_operator_narrows_and_clients_are_told(manifest: Manifest) -> None:
    cell = OperatorLimits(velocity=(0.1, None))
    assert OperatorLimits.from_text(SeamRules(manifest, cell).operator_json) == cell
    with pytest.raises(LimitsError, match="never widens them"):
        SeamRules(manifest, OperatorLimits(velocity=(9.0, None)))


def test_what_cannot_be_followed_is_logged_and_refused_only_to_who_asks(
    manifest: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    velocities = replace(manifest, action=replace(manifest.action, convention="joint_velocity"))
    assert SeamRules(velocities).limiter() is None
    assert "limited each by itself alone" in caplog.text
    for rules in ({"operator": OperatorLimits()}, {"refuses": True}):
        with pytest.raises(LimitsError, match="limited one after the other"):
            SeamRules(velocities, **rules)  # type: ignore[arg-type]
