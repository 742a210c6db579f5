"""Git LFS pointers: what a clone without ``git lfs`` has in place of large files."""

from __future__ import annotations

from pathlib import Path

from saccade.proto.errors import CheckpointError

_HEAD = b"version https://git-lfs.github.com/spec/"


def refuse_pointer(file: Path) -> None:
    """Refuse a file that is only a pointer to what it should be; one that cannot be read is left to its reader.

    Args:
        file: Path of a file of a checkpoint.

    Raises:
        CheckpointError: It is a pointer.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(len(_HEAD))
    except OSError:
        return
    if head == _HEAD:
        raise CheckpointError(
            f"{file.name}: expected the file itself, found a pointer of Git LFS to it: the repository was cloned "
            "without its large files; fetch them with `git lfs pull`, or download the checkpoint with `hf download`."
        )
