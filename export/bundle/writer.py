"""Writes a bundle whole or not at all: into a temporary folder, hashed, manifest last, then renamed.

A writer that is killed leaves its temporary folder, ``.NAME.partial-...`` beside the bundle to be; the next one for
the same bundle removes it. A lock that dies with its process tells an abandoned folder from one in use.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from saccade.proto.bundle_layout import MANIFEST_NAME
from saccade.proto.errors import ExportError, FileError
from saccade.proto.file_errors import naming
from saccade.proto.manifest import FileSpec, Manifest, write_manifest
from saccade.proto.mount_points import is_mount_point
from saccade.proto.writable import check_folder, check_name

_BLOCK_BYTES = 1 << 20
_PARTIAL, _OLD = "partial", "old"
"""Words in the names of temporary folders: a bundle being written, a bundle moved away while it is replaced."""


class BundleWriter:
    """A folder that becomes ``out`` only through :meth:`commit`; a context manager.

    Args:
        out: Folder that the bundle is moved to.
        overwrite: Replace a bundle that is at ``out``.

    Raises:
        ExportError: ``out`` exists and may not be replaced, or is no bundle.
        FileError: Nothing can be written to ``out``, or moved there; found out by doing it.
    """

    def __init__(self, out: Path, *, overwrite: bool = False) -> None:
        check_name(out)
        with naming(out):
            clear_abandoned(out)
        check_target(out, overwrite=overwrite)
        self.out = out
        self._overwrite = overwrite
        self._parents = [parent for parent in out.parents if not parent.exists()]
        try:
            check_folder(out.parent)
            with naming(out):
                if not out.exists():
                    out.mkdir(exist_ok=True)  # of that very name
                    with contextlib.suppress(OSError):  # another writer was faster
                        out.rmdir()
                self.folder, self._lock = _locked_folder(out, _PARTIAL)
        except FileError:
            self._remove_parents()
            raise

    def __enter__(self) -> BundleWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the temporary folder, if it was not committed, and what was made for it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)
        self._remove_parents()

    def commit(self, manifest_of: Callable[[Mapping[str, FileSpec]], Manifest]) -> Manifest:
        """Hash every file, write the manifest that lists them, and move the folder to its place.

        Args:
            manifest_of: Builds the manifest from size and hash of each file, by path.
        """
        files = {
            path.relative_to(self.folder).as_posix(): hash_file(path)
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }
        if MANIFEST_NAME in files:
            raise ExportError(f"expected {MANIFEST_NAME} to be written last, found it already there.")
        manifest = manifest_of(files)
        write_manifest(manifest, self.folder)
        self.folder.chmod(0o755)
        for path in (*self.folder.rglob("*"), self.folder):
            _sync(path)
        self._swap_in()
        _sync(self.out.parent)
        return manifest

    def _remove_parents(self) -> None:
        with contextlib.suppress(OSError):  # a bundle is in it, or something else by now
            for parent in self._parents:
                parent.rmdir()

    def _swap_in(self) -> None:
        check_target(self.out, overwrite=self._overwrite)  # something may have appeared there meanwhile
        if _is_free(self.out):
            self.folder.rename(self.out)
            return
        old, lock = _locked_folder(self.out, _OLD)
        try:
            self.out.rename(old / self.out.name)
            try:
                self.folder.rename(self.out)
            except BaseException:
                (old / self.out.name).rename(self.out)
                raise
        finally:
            shutil.rmtree(old, ignore_errors=True)
            os.close(lock)


def check_target(out: Path, *, overwrite: bool) -> None:
    """Refuse to replace what should stay at ``out``, or cannot be moved away.

    Raises:
        ExportError: ``out`` exists and ``overwrite`` is not set, or it is something other than a bundle.
        FileError: ``out`` is no name, a link, a mount point, or cannot be looked at.
    """
    check_name(out)
    with naming(out):
        _check_movable(out)
        is_free = _is_free(out)
    if is_free:
        return
    if not (out / MANIFEST_NAME).is_file():
        raise ExportError(
            f"expected a free place or a bundle at {out}, found something else; choose another --out."
        )
    if not overwrite:
        raise ExportError(f"expected no bundle at {out}, found one; use --force to replace it.")


def _check_movable(out: Path) -> None:
    """Refuse what a folder cannot be moved over."""
    if out.is_symlink():
        raise FileError(
            f"expected a folder to write at {out}, found a link to {os.readlink(out)}: name that."
        )
    if is_mount_point(out):
        raise FileError(
            f"expected a folder to write at {out}, found a mount point, which nothing can be moved to: name a folder "
            "in it."
        )


def clear_abandoned(out: Path) -> None:
    """Remove what killed writers left beside a bundle, and put back a bundle that one had moved away to replace it."""
    if not out.parent.is_dir():
        return
    for kind in (_OLD, _PARTIAL):
        for folder in sorted(out.parent.iterdir()):
            lock = _try_lock(folder) if folder.name.startswith(f".{out.name}.{kind}-") else None
            if lock is None:
                continue
            moved = folder / out.name
            if kind == _OLD and moved.is_dir() and not out.exists():
                moved.rename(out)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _locked_folder(out: Path, kind: str) -> tuple[Path, int]:
    """Make a temporary folder beside a bundle and return it with its lock, a descriptor to close."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.{kind}-", dir=out.parent))
        lock = os.open(folder, os.O_RDONLY)
        with contextlib.suppress(
            OSError
        ):  # a file system without locks: nothing there is ever taken for abandoned
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            return folder, lock
        os.close(lock)  # another writer took it for abandoned before it was locked


def _try_lock(folder: Path) -> int | None:
    """Return the lock of a folder that no living process has, None if one has or it cannot be told."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def check_space(out: Path, needed: int) -> None:
    """Refuse to begin what the disk has no room for.

    Args:
        out: Folder that the bundle is written to.
        needed: Bytes of the bundle's weights.

    Raises:
        ExportError: The disk has less free, or no file may be as large.
    """
    largest = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if resource.RLIM_INFINITY != largest < needed:
        raise ExportError(
            f"expected a weights file of {needed / 1e9:.1f} GB to be allowed, found a limit of {largest / 1e9:.1f} GB; "
            "raise it with `ulimit -f`."
        )
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ExportError(
            f"expected {needed / 1e9:.1f} GB free for the weights at {out}, found {free / 1e9:.1f} GB; make room, or "
            "choose another --out."
        )


def _is_free(out: Path) -> bool:
    """Whether nothing is at ``out``, or an empty folder."""
    return not out.exists() or (out.is_dir() and not any(out.iterdir()))


def hash_file(path: Path) -> FileSpec:
    """Return size and SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return FileSpec(sha256=digest.hexdigest(), bytes=path.stat().st_size)


def _sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
