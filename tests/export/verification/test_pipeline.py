"""The receipt says what was compared, in JSON that every reader takes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from saccade.export.verification.comparison import StageError
from saccade.export.verification.pipeline import Verification

STAGE = StageError("logits", 2, 4.0, 0.002, 0.0005, agrees=True)
FOUND = Verification(
    model="tiny",
    family="llava",
    side="PyTorch",
    reference="transformers.Llava",
    reference_versions={"transformers": "5"},
    versions={"saccade": "0"},
    frames=2,
    source="synthetic",
    tolerance=1e-3,
    stages=(STAGE,),
    not_compared=(),
)


def test_one_stage_that_differs_is_enough() -> None:
    wrong = replace(STAGE, stage="actions", error=np.inf, relative=np.inf, agrees=False, note="shapes")
    assert FOUND.agrees and not replace(FOUND, stages=(STAGE, wrong)).agrees
    written = json.loads(json.dumps(replace(FOUND, stages=(STAGE, wrong)).to_json(), allow_nan=False))
    assert written["agrees"] is False and [stage["relative"] for stage in written["stages"]] == [0.0005, None]
