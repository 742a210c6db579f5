"""Open a bundle: nothing in it is used before all of it is verified."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from saccade.proto.bundle_layout import MANIFEST_NAME
from saccade.proto.errors import BundleIntegrityError
from saccade.proto.file_errors import naming
from saccade.proto.manifest import FileSpec, Manifest, read_manifest

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Args:
        root: Directory of the bundle, resolved.
        manifest: What the bundle's ``manifest.json`` says.
    """

    root: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Read the manifest and verify size and SHA-256 of every file.

        Args:
            path: Directory of the bundle.

        Raises:
            BundleIntegrityError: No bundle is there, or a file is missing, extra, changed or a symbolic link.
            BundleVersionError: The bundle has another format version than this build reads.
            ManifestError: The manifest breaks a rule.
            FileError: The operating system refuses to read a file.
        """
        root = Path(os.path.realpath(path))
        with naming(root):
            if not root.is_dir():
                raise BundleIntegrityError(f"expected the directory of a bundle, found none at {path}.")
            manifest = read_manifest(root)
            _check_file_list(root, manifest)
            for name, spec in manifest.files.items():
                with naming(root / name):
                    _check_file(root / name, name, spec)
        return cls(root, manifest)

    def file(self, name: str) -> Path:
        """Return the path of a file that the manifest lists.

        Args:
            name: Path of the file inside the bundle, as the manifest spells it.

        Raises:
            BundleIntegrityError: The manifest lists no such file.
        """
        if name not in self.manifest.files:
            raise BundleIntegrityError(f"expected a file listed in the manifest, found {name!r}.")
        return self.root / name


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


def _check_file(path: Path, name: str, spec: FileSpec) -> None:
    if path.stat().st_size != spec.bytes:
        raise BundleIntegrityError(
            f"{name}: expected {spec.bytes} bytes, found {path.stat().st_size}: copy the bundle again."
        )
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    if digest.hexdigest() != spec.sha256:
        raise BundleIntegrityError(
            f"{name}: expected sha256 {spec.sha256}, found {digest.hexdigest()}: copy the bundle again."
        )
