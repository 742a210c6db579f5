"""What the operating system refuses of files, said as an error of ours: which file, why, what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saccade.proto.errors import FileError

_REMEDIES = {
    errno.EACCES: "check its permissions and those of the folders above it",
    errno.EDQUOT: "make room, or choose another place",
    errno.EEXIST: "choose another place: what is there is no folder",
    errno.EFBIG: "raise the limit of file sizes (`ulimit -f`), or choose another file system",
    errno.EIO: "is the disk or the network behind it failing?",
    errno.EISDIR: "name a file, not a folder",
    errno.ELOOP: "remove the links that lead to each other",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "check the path",
    errno.ENOSPC: "make room, or choose another place",
    errno.ENOTDIR: "what stands before it in the path is a file, not a folder: choose another place",
    errno.EPERM: "check its permissions, and whether the file system allows that",
    errno.EROFS: "the file system can only be read: choose another place",
}


def file_error(error: OSError, path: Path | None = None) -> FileError:
    """Say what the operating system refused.

    Args:
        error: What was raised.
        path: The file or folder that it is about; None = the one that the error names, if it names one.
    """
    named: object = path
    if path is None and isinstance(error.filename, (str, bytes)):
        named = os.fsdecode(error.filename)
    reason = error.strerror or str(error) or type(error).__name__
    remedy = _REMEDIES.get(error.errno or 0, "see the system's log")
    expected = "to be let read and write" if named is None else f"a usable file or folder at {named}"
    return FileError(f"expected {expected}, found: {reason}; {remedy}.")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses in a block into an error that names a file.

    Args:
        path: The file or folder that the block is about.

    Raises:
        FileError: The operating system refused.
    """
    try:
        yield
    except OSError as error:
        raise file_error(error, path) from error


def read_text(path: Path, *, errors: str = "strict") -> str:
    """Return the content of a text file in UTF-8.

    Args:
        path: The file.
        errors: What becomes of bytes that are no UTF-8, as for :meth:`bytes.decode`.

    Raises:
        FileError: The operating system refuses to read it.
        UnicodeDecodeError: It is no UTF-8.
    """
    with naming(path):
        return path.read_text(encoding="utf-8", errors=errors)
