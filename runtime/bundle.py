"""Open a bundle: nothing in it is used before all of it is verified, and nothing is read a second time.

Each file is read once into memory that this process alone has, and what is there is hashed: whatever becomes of the
files afterwards, what runs is what was verified.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade.proto.bundle_layout import MANIFEST_NAME
from saccade.proto.errors import BundleError, BundleIntegrityError
from saccade.proto.file_errors import naming
from saccade.proto.manifest import FileSpec, Manifest, read_manifest

_BLOCK_BYTES = 1 << 20
_LINE_BYTES = 64
_GRAPHS = "graphs/"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle, in memory. Once a program is loaded from it, dropping it frees what the program has copied.

    Args:
        root: Directory of the bundle, resolved.
        manifest: What the bundle's ``manifest.json`` says.
        files: Content of the files by name, as the manifest spells it: uint8 ``(bytes,)``, not writable.
    """

    root: Path
    manifest: Manifest
    files: Mapping[str, NDArray[np.uint8]] = field(repr=False, compare=False)

    @classmethod
    def open(cls, path: str | Path, *, with_graphs: bool = True) -> Bundle:
        """Read every file and verify its size and SHA-256.

        Args:
            path: Directory of the bundle.
            with_graphs: Whether graphs and weights are kept in memory, which only an engine needs; they are verified
                in either case.

        Raises:
            BundleIntegrityError: No bundle is there, or a file is missing, extra, changed or a symbolic link.
            BundleVersionError: The bundle has another format version than this build reads.
            ManifestError: The manifest breaks a rule.
            BundleError: There is not enough memory.
            FileError: The operating system refuses to read a file.
        """
        root = Path(os.path.realpath(path))
        with naming(root):
            if not root.is_dir():
                raise BundleIntegrityError(f"expected the directory of a bundle, found none at {path}.")
            manifest = read_manifest(root)
            _check_file_list(root, manifest)
        kept = {name for name in manifest.files if with_graphs or not name.startswith(_GRAPHS)}
        files = {
            name: _read_file(root / name, name, spec, is_kept=name in kept)
            for name, spec in manifest.files.items()
        }
        return cls(root, manifest, {name: files[name] for name in kept})

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Args:
            name: Path of the file inside the bundle, as the manifest spells it.

        Raises:
            BundleIntegrityError: The manifest lists no such file, or it is a graph and the bundle was opened without.
        """
        if name not in self.files:
            raise BundleIntegrityError(f"expected one of the files {sorted(self.files)}, found {name!r}.")
        return self.files[name].tobytes()


def _check_file_list(root: Path, manifest: Manifest) -> None:
    found: set[str] = set()
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            raise BundleIntegrityError(
                f"expected plain files only, found the symbolic link {name}: copy the file."
            )
        if not path.is_dir():
            found.add(name)
    expected = {*manifest.files, MANIFEST_NAME}
    for verdict, names in (("is missing", expected - found), ("is not in the manifest", found - expected)):
        if names:
            raise BundleIntegrityError(
                f"expected exactly the files that the manifest lists, but {min(names)} {verdict}: "
                f"copy the bundle again."
            )


def _read_file(path: Path, name: str, spec: FileSpec, *, is_kept: bool) -> NDArray[np.uint8]:
    """Read a file into memory, verify what is there, and return it; of one that is not kept, a part."""
    digest = hashlib.sha256()
    try:
        if path.stat().st_size != spec.bytes:
            raise BundleIntegrityError(
                f"{name}: expected {spec.bytes} bytes, found {path.stat().st_size}: copy the bundle again."
            )
        content = _room(spec.bytes if is_kept else min(spec.bytes, _BLOCK_BYTES))
        with path.open("rb") as file:
            for start in range(0, spec.bytes, _BLOCK_BYTES):
                block = content[start if is_kept else 0 :][: min(_BLOCK_BYTES, spec.bytes - start)]
                digest.update(block[: file.readinto(block.data)].data)
    except OSError as error:
        raise BundleIntegrityError(
            f"{name}: expected a file that can be read, found: {error.strerror}: copy the bundle again."
        ) from error
    except MemoryError as error:
        raise BundleError(f"{name}: expected {spec.bytes} bytes of free memory, found less.") from error
    if digest.hexdigest() != spec.sha256:
        raise BundleIntegrityError(
            f"{name}: expected sha256 {spec.sha256}, found {digest.hexdigest()}: copy the bundle again."
        )
    content.flags.writeable = False
    return content


def _room(count: int) -> NDArray[np.uint8]:
    """Return memory of some bytes that begins where a cache line does."""
    room = np.empty(count + _LINE_BYTES, np.uint8)
    return room[-room.ctypes.data % _LINE_BYTES :][:count]
