"""What a self-test found: the file that is sent back, and its reader.

A part is ``done``, ``failed`` with a code and a message, or ``skipped`` with a reason; none may be missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from saccade.proto.errors import InputError, ManifestError
from saccade.proto.file_errors import naming
from saccade.proto.strict_json import dump_json, from_json, parse_json

SCHEMA = "saccade-selftest"
SCHEMA_VERSION = 1
DOCTOR, BUILD, PARITY, BENCH, CLOSED_LOOP = "doctor", "build", "parity", "bench", "closed_loop"
ENGINE_PARTS = (BUILD, PARITY, BENCH, CLOSED_LOOP)
"""Parts of each engine, in the order in which they run."""


class Status(Enum):
    """What became of a part."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Part:
    """One part of a self-test.

    Args:
        name: ``doctor``, or one of ``build``, ``parity``, ``bench`` and ``closed_loop``.
        engine: Name of the engine; None for ``doctor``, which looks at the machine.
        status: What became of it.
        seconds: How long it took.
        code: Stable code of the error that it failed with; empty unless it failed.
        message: Why it failed or was skipped; empty if it was done.
        result: What its command wrote, plain JSON values; None if it wrote nothing.

    Raises:
        InputError: A failure without a code, a reason that is missing, or one where nothing went wrong.
    """

    name: str
    engine: str | None
    status: Status
    seconds: float
    code: str = ""
    message: str = ""
    result: Any = None

    def __post_init__(self) -> None:
        needs = {Status.DONE: (False, False), Status.FAILED: (True, True), Status.SKIPPED: (False, True)}
        if (bool(self.code), bool(self.message)) != needs[self.status]:
            raise InputError(
                f"{self.title}: expected a code where it failed and a message where it was not done, found "
                f"{self.status.value} with the code {self.code!r} and the message {self.message!r}."
            )

    @property
    def title(self) -> str:
        """Name of the part and of its engine, for people."""
        return self.name if self.engine is None else f"{self.engine}: {self.name}"


@dataclass(frozen=True)
class SelfTest:
    """Everything that one machine could run of one bundle.

    Args:
        schema: ``saccade-selftest``.
        schema_version: Version of this layout.
        measured: When it began, ISO 8601 with the time zone.
        command: What was typed, without folders.
        is_quick: Whether everything was cut short, so that the times are worth little.
        machine: Processor, cores, system.
        hardware: Board, system software, GPU and its driver.
        versions: Versions of Python and of the packages that matter.
        bundle: Name, shape and hash of the manifest.
        state: ``before`` and ``after``: load, clocks, temperatures, power mode, and the GPU's.
        other_cores: Cores that other programs took meanwhile; None where the machine does not tell.
        is_busy: Whether that was so much that the times are worth little.
        parts: What became of each part.

    Raises:
        InputError: It is no self-test of this version, or a part is missing or there twice.
    """

    schema: str
    schema_version: int
    measured: str
    command: tuple[str, ...]
    is_quick: bool
    machine: dict[str, Any]
    hardware: dict[str, Any]
    versions: dict[str, str]
    bundle: dict[str, Any]
    state: dict[str, Any]
    other_cores: float | None
    is_busy: bool
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if (self.schema, self.schema_version) != (SCHEMA, SCHEMA_VERSION):
            raise InputError(
                f"expected {SCHEMA} of version {SCHEMA_VERSION}, found {self.schema} of version "
                f"{self.schema_version}: read it with the saccade that wrote it, or run it again."
            )
        found = [(part.engine, part.name) for part in self.parts]
        engines = list(dict.fromkeys(engine for engine, _ in found if engine is not None))
        wanted = [(None, DOCTOR), *((engine, name) for engine in engines for name in ENGINE_PARTS)]
        if sorted(found, key=str) != sorted(wanted, key=str):
            raise InputError(
                f"expected every part once, {DOCTOR} and for each engine {', '.join(ENGINE_PARTS)}, found "
                f"{', '.join(part.title for part in self.parts) or 'none'}."
            )

    @property
    def has_failed(self) -> bool:
        """Whether any part failed."""
        return any(part.status is Status.FAILED for part in self.parts)

    def lines(self) -> Iterator[str]:
        """Yield one line for each part, for people."""
        for part in self.parts:
            code = f" [{part.code}]" if part.code else ""
            why = f": {part.message}{code}" if part.message else ""
            yield f"{part.status.value:8}{part.title} ({part.seconds:.0f} s){why}"


def write_selftest(path: Path, found: SelfTest) -> None:
    """Write a self-test.

    Args:
        path: File to write, or to overwrite.
        found: What was found.

    Raises:
        FileError: The operating system refuses.
    """
    with naming(path):
        path.write_text(dump_json(found), encoding="utf-8")


def read_selftest(path: Path) -> SelfTest:
    """Read a self-test that somebody sent, and check it.

    Args:
        path: The file.

    Raises:
        InputError: It is not what :func:`write_selftest` writes, or of another version.
        FileError: The operating system refuses to read it.
    """
    with naming(path):
        content = path.read_bytes()
    try:
        value = parse_json(content.decode("utf-8"))
        version = value.get("schema_version") if isinstance(value, dict) else None
        if isinstance(version, int) and version != SCHEMA_VERSION:
            raise InputError(
                f"expected version {SCHEMA_VERSION}, found {version}: read it with the saccade that wrote it."
            )
        return from_json(SelfTest, value)
    except (ManifestError, InputError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name}: expected what `saccade selftest` writes, found: {error}") from error
