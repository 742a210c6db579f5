"""Writes a bundle whole or not at all: into a temporary folder, hashed, manifest last, then renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from saccade.proto.bundle_layout import MANIFEST_NAME
from saccade.proto.errors import ExportError
from saccade.proto.manifest import FileSpec, Manifest, write_manifest

_BLOCK_BYTES = 1 << 20


class BundleWriter:
    """A folder that becomes ``out`` only through :meth:`commit`; a context manager.

    Args:
        out: The bundle to be.
        overwrite: Replace a bundle that is there.

    Raises:
        ExportError: ``out`` exists and may not be replaced, or is no bundle.
    """

    def __init__(self, out: Path, *, overwrite: bool = False) -> None:
        check_target(out, overwrite=overwrite)
        self.out = out
        self._overwrite = overwrite
        out.parent.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))

    def __enter__(self) -> BundleWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what was not committed."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def commit(self, manifest_of: Callable[[Mapping[str, FileSpec]], Manifest]) -> Manifest:
        """Hash every file, write the manifest that lists them, and move the folder to its place.

        Args:
            manifest_of: Builds the manifest from the files.
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

    def _swap_in(self) -> None:
        check_target(self.out, overwrite=self._overwrite)  # something may have appeared there meanwhile
        if _is_free(self.out):
            self.folder.rename(self.out)
            return
        old = Path(tempfile.mkdtemp(prefix=f".{self.out.name}.old-", dir=self.out.parent))
        self.out.rename(old / self.out.name)
        try:
            self.folder.rename(self.out)
        except BaseException:
            (old / self.out.name).rename(self.out)
            old.rmdir()
            raise
        shutil.rmtree(old, ignore_errors=True)


def check_target(out: Path, *, overwrite: bool) -> None:
    """Refuse to replace what should stay; costs nothing, so it is asked before the work begins.

    Raises:
        ExportError: ``out`` exists and ``overwrite`` is not set, or it is something other than a bundle.
    """
    if _is_free(out):
        return
    if not (out / MANIFEST_NAME).is_file():
        raise ExportError(
            f"expected a free place or a bundle at {out}, found something else; choose another --out."
        )
    if not overwrite:
        raise ExportError(f"expected no bundle at {out}, found one; use --force to replace it.")


def _is_free(out: Path) -> bool:
    """Nothing is there, or an empty folder."""
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
