"""What goes wrong in the other interpreter is one error that says what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from saccade.export.verification.exchange import ask_reference
from saccade.export.verification.published import PUBLISHED
from saccade.proto.errors import ExportError

GIVEN = {"images": np.zeros((1, 1, 4, 4, 3), np.uint8)}


def test_a_class_that_is_not_installed_says_what_to_install(tmp_path: Path) -> None:
    """The real interpreter of the tests, which has no timm."""
    with pytest.raises(
        ExportError,
        match=r"No module named 'timm'\): pip install timm transformers torchvision, or name an interpreter that has "
        "it with --reference-python PATH",
    ):
        ask_reference(PUBLISHED["openvla"], {}, GIVEN, None, tmp_path)


def test_a_class_that_fails_says_why(tmp_path: Path) -> None:
    request = {"checkpoint": str(tmp_path / "nowhere"), "instructions": []}
    with pytest.raises(ExportError, match=r"found that it failed in .*: \w+Error: .*nowhere"):
        ask_reference(PUBLISHED["llava"], request, GIVEN, Path(sys.executable), tmp_path)


@pytest.mark.parametrize("name", ["nowhere/python", "."])
def test_what_is_no_interpreter_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match="--reference-python: expected an interpreter, found"):
        ask_reference(PUBLISHED["llava"], {}, GIVEN, tmp_path / name, tmp_path)
