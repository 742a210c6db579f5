"""Recorded pictures and questions fit, or are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saccade.export.verification.answering_stages import read_questions
from saccade.proto.errors import ExportError

IMAGES = np.zeros((2, 1, 6, 8, 3), np.uint8)
TEXT = np.array(["what?", "where?"])


def test_pictures_and_questions_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "frames.npz", images=IMAGES, instruction=TEXT)
    images, questions = read_questions(tmp_path / "frames.npz")
    assert images.shape == IMAGES.shape and questions == ["what?", "where?"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, "expected an .npz with the arrays images and instruction"),
        ({"images": IMAGES[:, 0], "instruction": TEXT}, r"expected uint8 \(2, pictures, height, width, 3\)"),
        ({"images": IMAGES / 255, "instruction": TEXT}, "found float64"),
        ({"images": IMAGES[:1], "instruction": TEXT}, r"found uint8 \[1, 1, 6, 8, 3\]"),
        ({"images": IMAGES[:0], "instruction": TEXT[:0]}, r"found uint8 \[0, 1, 6, 8, 3\]"),
        ({"images": np.array([object()]), "instruction": TEXT}, "expected an .npz"),
    ],
)
def test_what_is_no_recording_is_named(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "frames.npz", **arrays)
    with pytest.raises(ExportError, match=message):
        read_questions(tmp_path / "frames.npz")


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_what_is_no_archive_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "frames.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ExportError, match=r"frames\.npz: expected an \.npz"):
        read_questions(path)
