"""A pointer of Git LFS in place of any file that is read is told from a broken file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.lfs_pointers import refuse_pointer
from saccade.export.loading.torch_heads import read_head
from saccade.proto.errors import CheckpointError
from tests.export.layouts.folders import LFS

READERS: dict[str, Callable[[Path], object]] = {
    "config.json": lambda folder: CheckpointFolder(folder).config,
    "tokenizer.json": lambda folder: CheckpointFolder(folder).tokenizer,
    "model.safetensors": lambda folder: CheckpointFolder(folder).weights,
    "action_head--1_checkpoint.pt": lambda folder: read_head(folder / "action_head--1_checkpoint.pt"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_pointer_is_told_wherever_a_file_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(LFS.format(0))
    with pytest.raises(
        CheckpointError, match=f"{name}: expected the file itself, found a pointer of Git LFS"
    ):
        READERS[name](tmp_path)


def test_what_cannot_be_read_is_left_to_its_reader(tmp_path: Path) -> None:
    refuse_pointer(tmp_path / "none")
    refuse_pointer(tmp_path)
