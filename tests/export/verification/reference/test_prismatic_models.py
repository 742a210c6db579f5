"""OpenVLA and OpenVLA-OFT of timm's towers and transformers' Llama against our models, from files as published."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from saccade.export.families.embodiment import write_embodiment
from saccade.export.verification.pipeline import VerifyRequest, verify
from tests.export.families.llama_words import write_tokenizer
from tests.export.families.oft_reference import ReferenceOft
from tests.export.families.openvla import test_checkpoint as test_openvla
from tests.export.families.openvla_oft.test_published import LIBERO, embodiment, write_oft
from tests.export.families.prismatic_reference import Reference, write

INNER = ["pictures", "vision features", "projected tokens", "decoder input", "decoder states"]


def openvla(folder: Path) -> Path:
    write(Reference(seed=3), folder, {test_openvla.KEY: test_openvla.STATISTICS})
    write_tokenizer(folder)
    write_embodiment(test_openvla.embodiment(image_size=(20, 36), crop=0.9), folder)
    return folder


def oft(folder: Path) -> Path:
    """The crop is that of the published evaluation, since nobody says another."""
    write_oft(ReferenceOft(7, 8), folder, LIBERO)
    write_embodiment(replace(embodiment(*LIBERO), image_size=(40, 33)), folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("write", "stages"), [
    (openvla, ["prompt tokens", *INNER, "logits", "actions", "actions in units"]),
    (oft, ["prompt tokens", "proprioception", *INNER, "actions", "actions in units"]),
], ids=["openvla", "openvla_oft"])  # fmt: skip
def test_every_stage_agrees(
    tmp_path: Path, reference_python: Path, write: Callable[[Path], Path], stages: list[str]
) -> None:
    request = VerifyRequest(checkpoint=write(tmp_path / "model"), reference_python=reference_python)
    found = verify(request, lambda what: None)
    assert [stage.stage for stage in found.stages] == stages and found.not_compared == ()
    assert found.agrees, [(stage.stage, stage.relative, stage.note) for stage in found.stages]
    assert max(stage.relative for stage in found.stages) < 1e-4
    assert json.loads(json.dumps(found.to_json()))["reference_versions"]["timm"]
