"""A bundle on its way to a machine that does not have it: bytes by path, put down in a folder of the worker's own."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from saccade.proto.errors import SweepError
from saccade.proto.file_errors import naming
from saccade.sim.sweeps.identity import scorer_beside

_ACTS = "bundle"
Parcel = Mapping[str, bytes]


def pack(bundle: Path) -> Parcel:
    """Return the content of a bundle, and of the view scorer beside it, by relative path.

    Args:
        bundle: Directory of the bundle.
    """
    held: dict[str, bytes] = {}
    roots, scorer = {_ACTS: bundle}, scorer_beside(bundle)
    if scorer is not None:
        roots[f"{_ACTS}.scorer"] = scorer
    for name, root in roots.items():
        for path in sorted(root.rglob("*")):
            if path.is_file():
                with naming(path):
                    held[f"{name}/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    return held


class Unpacked:
    """Holds the last parcel's bundle in a folder of its own, which goes with the process."""

    def __init__(self) -> None:
        self._key = ""
        self._folder: Path | None = None
        atexit.register(self.close)

    def bundle(self, key: str, parcel: Parcel) -> Path:
        """Return the directory of a parcel's bundle, unpacked if it is not the last one's.

        Args:
            key: Digest that tells parcels apart.
            parcel: What :func:`pack` returned.

        Raises:
            SweepError: A path leads out of the folder.
        """
        if self._folder is None or key != self._key:
            self.close()
            self._folder, self._key = Path(tempfile.mkdtemp(prefix="saccade-")).resolve(), key
            for name, content in parcel.items():
                place = (self._folder / name).resolve()
                if not place.is_relative_to(self._folder):
                    self.close()
                    raise SweepError(f"expected a bundle's files to lie in it, found {name}: pack it again.")
                with naming(place):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(content)
        return self._folder / _ACTS

    def close(self) -> None:
        """Remove the folder."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
