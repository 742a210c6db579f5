"""Frozen dataclasses to JSON and back, strictly.

A field is a key; every key must be there, unless its field has a default: then the key may be missing, and is left
out while the field has that value, so that a reader that does not know it yet still reads what does not use it. No
other key may be there. The annotations are the schema: ``str int float bool``, enums of strings, ``tuple[X, ...]``,
``dict[str, X]``, other dataclasses, ``X | None``, and ``Any`` for free-form JSON. Anything else in the text is a
:class:`ManifestError` that names the JSON path, such as ``$.profiles[1].keep``.
"""

from __future__ import annotations

import dataclasses
import json
from enum import Enum
from math import isfinite
from types import NoneType, UnionType
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from saccade.proto.errors import ManifestError, SaccadeError

T = TypeVar("T")


def parse_json(text: str) -> Any:
    """Parse JSON, refusing duplicate keys and the numbers that JSON does not have (NaN, Infinity).

    Args:
        text: The JSON text.

    Raises:
        ManifestError: ``text`` is not JSON by these rules.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"expected JSON, found text that does not parse: {error}.") from error


def from_json(kind: type[T], value: Any, path: str = "$") -> T:
    """Build ``kind`` from parsed JSON.

    Args:
        kind: A dataclass or any annotation of the module docstring.
        value: Parsed JSON: objects, lists, text, numbers.
        path: JSON path of ``value``, for messages.

    Raises:
        ManifestError: A key is unknown, missing or of another type, or a rule of ``kind`` itself is broken.
    """
    result: T = _decode(kind, value, path)
    return result


def to_json(value: Any) -> Any:
    """Turn a dataclass into plain JSON values; the inverse of :func:`from_json`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: (field, getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {name: to_json(item) for name, (field, item) in fields.items() if not _is_default(field, item)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return value


def dump_json(value: Any) -> str:
    """Serialise a dataclass as readable JSON text with a final newline.

    Raises:
        ManifestError: There is a value that JSON cannot hold, such as NaN.
    """
    try:
        return json.dumps(to_json(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ManifestError(
            f"expected plain JSON values, found one that JSON cannot hold: {error}."
        ) from error


def _decode(kind: Any, value: Any, path: str) -> Any:
    if kind is Any:
        return value
    decode_generic = _GENERIC.get(get_origin(kind))
    if decode_generic is not None:
        return decode_generic(get_args(kind), value, path)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, value, path)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _decode_enum(kind, value, path)
    return _decode_scalar(kind, value, path)


def _decode_scalar(kind: type, value: Any, path: str) -> Any:
    if kind is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            _wrong_type(path, "a finite number", value)
    if type(value) is not kind:
        _wrong_type(path, kind.__name__, value)
    if isinstance(value, float) and not isfinite(value):
        _wrong_type(path, "a finite number", value)
    return value


def _decode_enum(kind: type[Enum], value: Any, path: str) -> Enum:
    try:
        return kind(value)
    except ValueError:
        _wrong_type(path, "one of " + ", ".join(repr(member.value) for member in kind), value)


def _decode_list(arguments: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        _wrong_type(path, "a list", value)
    return tuple(_decode(arguments[0], entry, f"{path}[{index}]") for index, entry in enumerate(value))


def _decode_dict(arguments: tuple[Any, ...], value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _wrong_type(path, "an object", value)
    return {key: _decode(arguments[1], entry, f"{path}.{key}") for key, entry in value.items()}


def _decode_optional(arguments: tuple[Any, ...], value: Any, path: str) -> Any:
    (kind,) = (option for option in arguments if option is not NoneType)
    return None if value is None else _decode(kind, value, path)


_GENERIC = {tuple: _decode_list, dict: _decode_dict, UnionType: _decode_optional}
"""By the origin of an annotation: what decodes a value, given the annotation's arguments."""


def _decode_dataclass(kind: Any, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        _wrong_type(path, "an object", value)
    hints = get_type_hints(kind)
    fields = dataclasses.fields(kind)
    names = [field.name for field in fields]
    for key in value:
        if key not in names:
            raise ManifestError(f"{path}.{key}: unknown key; expected only {', '.join(names)}.")
    for field in fields:
        if field.name not in value and _default(field) is dataclasses.MISSING:
            raise ManifestError(f"{path}.{field.name}: missing key; add it or export again.")
    arguments = {name: _decode(hints[name], value[name], f"{path}.{name}") for name in names if name in value}
    try:
        return kind(**arguments)
    except SaccadeError as error:
        raise ManifestError(f"{path}: {error}" if path != "$" else str(error)) from error


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    default = _default(field)
    return default is not dataclasses.MISSING and bool(default == value)


def _default(field: dataclasses.Field[Any]) -> Any:
    """Return a field's default, or ``MISSING``."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _wrong_type(path: str, expected: str, value: Any) -> NoReturn:
    shown = repr(value) if isinstance(value, (str, int, float)) else type(value).__name__
    raise ManifestError(f"{path}: expected {expected}, found {shown[:80]}.")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} appears twice in one object")
        result[key] = value
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
