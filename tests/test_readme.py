"""The README's table of errors has the codes that the boundary's tests know by their classes."""

from __future__ import annotations

import re
from pathlib import Path

from saccade.proto import errors

README = Path(__file__).parents[1] / "README.md"
CODES = {
    "observation.stale": errors.StaleObservationError,
    "action.late": errors.LateChunkError,
    "observation.frozen": errors.FrozenCameraError,
    "action.refused": errors.ActionRefusedError,
    "input.view_scores": errors.ViewScoresError,
    "engine": errors.EngineError,
    "observation.superseded": errors.SupersededError,
    "session.stopped": errors.StoppedError,
    "session.lease_held": errors.LeaseHeldError,
    "transport.*": errors.TransportError,
    "serve.draining": errors.DrainingError,
    "question.busy": errors.AnswererBusyError,
    "input.video": errors.VideoError,
    "bundle.integrity": errors.BundleIntegrityError,
}


def test_the_codes_are_those_of_the_errors() -> None:
    chapter = (
        README.read_text(encoding="utf-8").partition("## When something goes wrong")[2].partition("## ")[0]
    )
    assert re.findall(r"\| `([a-z_.*]+)` \|$", chapter, re.MULTILINE) == list(CODES)
    assert all(kind.code == code.removesuffix(".*") for code, kind in CODES.items())
