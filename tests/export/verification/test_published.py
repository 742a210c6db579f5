"""Every family has a published class, or a reason why it has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from saccade.export import verification
from saccade.export.families.registry import FAMILIES
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.verification.published import _NONE, PUBLISHED, published_class
from saccade.proto.errors import ExportError


def test_no_family_is_forgotten() -> None:
    assert {*PUBLISHED, *_NONE} == set(FAMILIES)
    programs = Path(verification.__file__).parent / "reference"
    assert all((programs / f"{published.program}.py").is_file() for published in PUBLISHED.values())


@pytest.mark.parametrize(
    ("written_as", "family", "reason"),
    [
        ("openvla_oft", "openvla_oft", "Saccade's own layout"),
        ("pi0", "pi0", "a layout that lerobot does not read"),
        ("llava", "llava_qwen", "no part of transformers"),
        ("llava", "acme_vla", "registered by another package"),
    ],
)
def test_what_no_class_reads_is_refused(
    written: Callable[[str], Path], written_as: str, family: str, reason: str
) -> None:
    with pytest.raises(ExportError, match=f"{reason}.*there is nothing to compare it with"):
        published_class(CheckpointFolder(written(written_as)), family)


def test_the_published_layout_of_the_same_family_is_taken(written: Callable[[str], Path]) -> None:
    folder = CheckpointFolder(written("openvla_oft, published"))
    assert published_class(folder, "openvla_oft").program == "prismatic_models"
