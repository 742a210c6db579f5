"""Can a result be written there? Found out by writing, before the work that it is the result of."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from saccade.proto.errors import FileError
from saccade.proto.file_errors import naming

_PROBE = bytes(1 << 16)
"""What a disk must have room for, for work to begin."""


def check_file(path: Path) -> None:
    """Refuse a place where no file can be written; what is there stays as it is.

    Args:
        path: File that will be written, or overwritten; a link stands for the file that it leads to.

    Raises:
        FileError: The place is a folder, its name is too long, its folder is missing or no folder, the file system is
            full or read-only, or whatever else the operating system refuses.
    """
    check_name(path)
    with naming(path):
        place = Path(os.path.realpath(path))
        if place.is_dir():
            raise FileError(f"expected a file to write at {path}, found a folder: name a file in it.")
        if not os.path.lexists(place):
            _try(place)
        elif place.is_file():
            with place.open("r+b"):
                pass
        elif stat.S_ISCHR(place.stat().st_mode) and not _is_terminal(place):
            with place.open("wb", buffering=0) as device:
                device.write(b"\n")


def check_folder(path: Path) -> None:
    """Make a folder, if there is none, and refuse one that nothing can be written to.

    Args:
        path: Folder that files will be written to.

    Raises:
        FileError: It is no folder and cannot become one, or the operating system refuses to write to it.
    """
    with naming(path):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".saccade-", dir=path) as folder:
            _try(Path(folder) / "probe")


def check_name(path: Path) -> None:
    """Refuse a path that names no place of its own, such as ``.`` or ``runs/..``.

    Raises:
        FileError: The path ends in no name.
    """
    if path.name in {"", ".."}:
        raise FileError(f"expected a path that ends in the name to write, found {str(path)!r}: add a name.")


def _try(place: Path) -> None:
    """Write a file where there is none, down to the disk, and remove it."""
    with place.open("xb") as file:
        try:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())
        finally:
            place.unlink()


def _is_terminal(device: Path) -> bool:
    with device.open("wb", buffering=0) as file:
        return file.isatty()
