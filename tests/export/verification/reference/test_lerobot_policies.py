"""lerobot's classes in their own interpreter, from tiny checkpoints that they wrote, against our models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from saccade.export.verification.pipeline import VerifyRequest, verify

STAGES = [
    "prompt tokens",
    "proprioception",
    "pictures",
    "vision features",
    "projected tokens",
    "decoder input",
    "decoder keys and values",
    "actions",
    "actions in units",
]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["smolvla", "pi0_relative", "pi05"])
def test_every_stage_agrees(
    lerobot_checkpoint: Callable[[str], Path], reference_python: Path, policy: str
) -> None:
    checkpoint = lerobot_checkpoint(policy)
    found = verify(VerifyRequest(checkpoint=checkpoint, reference_python=reference_python), lambda what: None)
    assert [stage.stage for stage in found.stages] == STAGES and found.not_compared == ()
    assert found.agrees, [(stage.stage, stage.relative, stage.note) for stage in found.stages]
    assert found.reference.startswith("lerobot.policies.") and found.reference_versions["lerobot"]
    assert max(stage.relative for stage in found.stages) < 1e-4
