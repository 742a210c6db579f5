"""Plans that a TensorRT built, kept on disk under everything that they depend on.

A plan is one file with a JSON file beside it that says what it was built from and for, its size and its hash. The JSON
is written last, and both are written under temporary names and renamed: what a killed build leaves is no plan, and the
next build removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import FileError, PlanError
from saccade.proto.file_errors import naming
from saccade.proto.writable import check_folder

_PARTIAL = ".partial"
_LOCK = ".lock"
_NAME_DIGITS = 16


@dataclass(frozen=True)
class PlanKey:
    """Everything that a plan depends on; it is used where all of it is the same.

    Args:
        graph: Name of the ONNX file, for people.
        sha256: Hash of the graph and of its weights.
        engine: Name of the engine.
        version: Version of its library.
        compute_capability: What the GPU can do, e.g. ``SM87``.
        gpu: Name of the GPU; empty for an engine whose plans run on each of that compute capability.
        driver: CUDA version of the driver, e.g. 12060; 0 for an engine whose plans do not depend on it.
        flags: Options of the build, sorted.
    """

    graph: str
    sha256: str
    engine: str
    version: str
    compute_capability: str
    gpu: str = ""
    driver: int = 0
    flags: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        """Name of the plan's file: the graph's for people, and a hash of the rest."""
        told = json.dumps(asdict(self), sort_keys=True)
        return f"{Path(self.graph).stem}.{hashlib.sha256(told.encode()).hexdigest()[:_NAME_DIGITS]}.plan"


def default_plans_folder() -> Path:
    """Return where plans lie unless it is said otherwise: ``saccade/plans`` in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache.startswith("/") else Path.home() / ".cache") / "saccade" / "plans"


class PlanCache:
    """A folder of plans.

    Args:
        folder: The folder; made when something is written to it. None = :func:`default_plans_folder`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = default_plans_folder() if folder is None else folder

    def has(self, key: PlanKey) -> bool:
        """Whether there is a plan of that key; what is in it is not looked at."""
        with naming(self.folder):
            return self._described(key).is_file()

    def read(self, key: PlanKey) -> NDArray[np.uint8]:
        """Return a plan, uint8 ``(bytes,)``, verified.

        Args:
            key: What it depends on.

        Raises:
            PlanError: There is none, only one of other versions or for another GPU, or its file is damaged; the message
                says which.
            FileError: The operating system refuses to read it.
        """
        place = self.folder / key.file_name
        if not self.has(key):
            raise PlanError(
                f"expected a plan of {key.graph} for {_machine(key)} in {self.folder}, found {self._why_none(key)}: "
                f"run `saccade build BUNDLE --engine {key.engine}` here."
            )
        described = _read_description(self._described(key))
        with naming(place):
            if not place.is_file():
                raise _damaged(place, "no such file")
            plan = np.fromfile(place, np.uint8)
        found = hashlib.sha256(plan.data).hexdigest()
        if (plan.size, found) != (described.get("bytes"), described.get("plan_sha256")):
            raise _damaged(place, f"{plan.size} bytes of another content")
        return plan

    def write(self, key: PlanKey, plan: memoryview) -> None:
        """Write a plan, whole or not at all; one of the same key is replaced.

        Args:
            key: What it depends on.
            plan: The plan, bytes.

        Raises:
            FileError: The operating system refuses, e.g. since the disk is full.
        """
        place = self.folder / key.file_name
        described = {
            "key": asdict(key),
            "bytes": plan.nbytes,
            "plan_sha256": hashlib.sha256(plan).hexdigest(),
        }
        self._put(place, plan)
        self._put(self._described(key), memoryview(json.dumps(described, indent=1).encode()))

    def read_timings(self, key: PlanKey) -> bytes:
        """Return what earlier builds measured on this GPU with this library; empty if there is nothing."""
        with naming(self.folder):
            place = self._timings(key)
            return place.read_bytes() if place.is_file() else b""

    def write_timings(self, key: PlanKey, timings: memoryview) -> None:
        """Keep what a build measured, for the next one.

        Raises:
            FileError: The operating system refuses.
        """
        self._put(self._timings(key), timings)

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """Have the folder for one build alone, and remove what killed builds left in it.

        Raises:
            PlanError: Another process builds there.
            FileError: The folder cannot be made or written to.
        """
        check_folder(self.folder)
        with naming(self.folder):
            lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise PlanError(
                    f"expected to build plans in {self.folder} alone, found another process that does: wait for it, or "
                    "name another --plans."
                ) from error
            for left in self.folder.glob(f"*{_PARTIAL}"):
                left.unlink(missing_ok=True)
            yield
        finally:
            os.close(lock)

    def _described(self, key: PlanKey) -> Path:
        return self.folder / f"{key.file_name}.json"

    def _timings(self, key: PlanKey) -> Path:
        machine = f"{key.engine} {key.version} {key.compute_capability} {key.gpu} {key.driver}"
        digits = hashlib.sha256(machine.encode()).hexdigest()[:_NAME_DIGITS]
        return self.folder / f"{key.engine}.{digits}.timings"

    def _why_none(self, key: PlanKey) -> str:
        """Say in what the nearest plan of that graph differs."""
        nearest: list[str] | None = None
        for path in sorted(self.folder.glob("*.plan.json")):
            with contextlib.suppress(PlanError, FileError):
                found = _read_description(path)["key"]
                if found["graph"] == key.graph and found["engine"] == key.engine:
                    differences = [
                        f"{field.name} {_plain(found.get(field.name))}, not {_plain(getattr(key, field.name))}"
                        for field in fields(key)
                        if _plain(found.get(field.name)) != _plain(getattr(key, field.name))
                    ]
                    if nearest is None or len(differences) < len(nearest):
                        nearest = differences
        return "none" if nearest is None else f"only one of {'; '.join(nearest)}"

    def _put(self, place: Path, content: memoryview) -> None:
        """Write a file down to the disk under a temporary name, and rename it."""
        partial = place.with_name(place.name + _PARTIAL)
        with naming(place):
            try:
                with partial.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(place)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise


def _read_description(path: Path) -> dict[str, Any]:
    with naming(path):
        content = path.read_bytes()
    try:
        described = json.loads(content)
    except ValueError as error:
        raise _damaged(path, f"what is no JSON ({error})") from error
    key = described.get("key") if isinstance(described, dict) else None
    if not isinstance(key, dict) or not {"graph", "engine"} <= set(key):
        raise _damaged(path, "a description of no plan")
    found: dict[str, Any] = described
    return found


def _plain(value: object) -> str:
    """Write a field as a person reads it; JSON makes lists of tuples."""
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or "none"
    return str(value)


def _machine(key: PlanKey) -> str:
    return " ".join(filter(None, (key.gpu, key.compute_capability)))


def _damaged(path: Path, found: str) -> PlanError:
    return PlanError(
        f"expected the plan {path} as it was built, found {found}: `saccade build --rebuild` renews it."
    )
