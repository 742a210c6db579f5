"""Configuration files, read strictly: what is used is checked, what is missing takes a known default and is logged."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from saccade.export.loading.lfs_pointers import refuse_pointer
from saccade.proto.errors import CheckpointError
from saccade.proto.file_errors import read_text

_log = logging.getLogger(__name__)
T = TypeVar("T", int, float, str, bool)


def read_object(folder: Path, name: str) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        CheckpointError: The file is missing, no JSON, or holds something else than an object.
        FileError: The operating system refuses to read it.
    """
    if not (folder / name).is_file():
        raise CheckpointError(f"expected {name} in {folder.name}/, found none.")
    refuse_pointer(folder / name)
    try:
        value = json.loads(read_text(folder / name))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name}: expected JSON, found: {error}.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{name}: expected a JSON object, found {type(value).__name__}.")
    return value


class JsonFields:
    """The fields of one JSON object.

    Args:
        values: The JSON object.
        where: File, or place in a file, that errors name, e.g. ``config.json: text_config``.
        defaults: Values that the class that wrote it assumes where a field is missing; a default that is taken is
            logged.
    """

    def __init__(self, values: object, where: str, defaults: Mapping[str, object] | None = None) -> None:
        if not isinstance(values, Mapping):
            raise CheckpointError(f"{where}: expected an object, found {type(values).__name__}.")
        self._values, self._where, self._defaults = values, where, defaults or {}

    def child(self, name: str, defaults: Mapping[str, object] | None = None) -> JsonFields:
        """Return the object in field ``name``, empty if it is missing and has defaults."""
        value = self._values.get(name)
        if value is None and defaults is None:
            raise CheckpointError(f"{self._where}: expected the object {name!r}, found none.")
        return JsonFields(value or {}, f"{self._where}: {name}", defaults)

    def names(self) -> tuple[str, ...]:
        """Return the names of the fields that are there, in order."""
        return tuple(self._values)

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._values.get(name) is not None

    def knows(self, name: str) -> bool:
        """Whether :meth:`take` has something to return: the field if it is there, null or not, else a default."""
        return (
            self._values[name] is not None if name in self._values else self._defaults.get(name) is not None
        )

    def take(self, name: str, kind: type[T]) -> T:
        """Return a field, or its default.

        Raises:
            CheckpointError: The field is of another kind, or missing without a default.
        """
        value = self._values.get(name)
        if value is None:
            if name not in self._defaults:
                raise CheckpointError(f"{self._where}: expected {name!r}, found none.")
            value = self._defaults[name]
            _log.info("%s: no %r, taken as %r", self._where, name, value)
        is_number = kind is float and isinstance(value, int) and not isinstance(value, bool)
        if not (isinstance(value, kind) or is_number) or (kind is int and isinstance(value, bool)):
            raise CheckpointError(f"{self._where}: {name}: expected {kind.__name__}, found {value!r}.")
        taken: T = kind(value)  # type: ignore[arg-type]
        return taken

    def items(self, name: str, kind: type[T]) -> tuple[T, ...]:
        """Return a field that is a list, or its default."""
        value = self._values.get(name, self._defaults.get(name))
        if not isinstance(value, (list, tuple)):
            raise CheckpointError(
                f"{self._where}: {name}: expected a list of {kind.__name__}, found {value!r}."
            )
        return tuple(JsonFields({name: item}, self._where).take(name, kind) for item in value)

    def rows(self, name: str, kind: type[T]) -> tuple[tuple[T, ...], ...]:
        """Return a field that is a list of lists, or its default."""
        value = self._values.get(name)
        value = self._defaults.get(name) if value is None else value
        if not isinstance(value, (list, tuple)):
            raise CheckpointError(
                f"{self._where}: {name}: expected a list of lists of {kind.__name__}, found {value!r}."
            )
        return tuple(JsonFields({name: row}, self._where).items(name, kind) for row in value)

    def objects(self, name: str) -> tuple[JsonFields, ...]:
        """Return a field that is a list of objects."""
        value = self._values.get(name)
        if not isinstance(value, list):
            raise CheckpointError(f"{self._where}: {name}: expected a list, found {value!r:.80}.")
        return tuple(JsonFields(entry, f"{self._where}: {name}") for entry in value)

    def expect(self, name: str, accepted: Collection[object]) -> None:
        """Refuse a switch that changes the model and that is not known here; a missing field is accepted."""
        value = self._values.get(name)
        if value is not None and value not in tuple(accepted):  # of a list or object there is no hash
            wanted = " or ".join(repr(item) for item in accepted)
            raise CheckpointError(f"{self._where}: {name}: expected {wanted}, found {value!r}.")
