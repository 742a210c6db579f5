"""Options of token-selection policies: frozen dataclasses of plain JSON values, checked on the way in.

The same values travel from the command line through the policy into the bundle's manifest.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from saccade.proto.errors import PolicyError

ConfigT = TypeVar("ConfigT", bound="PolicyConfig")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Base of the options of one policy. Subclasses check ranges in ``__post_init__``."""

    def as_dict(self) -> dict[str, object]:
        """Return the options as plain JSON values; :meth:`from_options` takes them back."""
        return asdict(self)

    @classmethod
    def from_options(cls: type[ConfigT], policy: str, options: Mapping[str, object]) -> ConfigT:
        """Build the options of ``policy`` from untyped values.

        Raises:
            PolicyError: An option is unknown, of the wrong type, or out of range.
        """
        hints = get_type_hints(cls)
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise PolicyError(f"policy {policy!r} has no option {name!r}; {suggest(name, known)}")
        return cls(**{name: _checked(policy, name, value, hints[name]) for name, value in options.items()})


def suggest(name: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'? Known: ..." for an unknown name."""
    known = sorted(known)
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    guess = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"{guess}known: {', '.join(known) or 'none'}"


def require(holds: bool, option: str, expected: str, found: object) -> None:
    """Raise unless an option's value is in its range.

    Raises:
        PolicyError: ``holds`` is False.
    """
    if not holds:
        raise PolicyError(f"option {option!r} must be {expected}, found {found!r}")


def resolve_insertion_layer(option: int | None, layers: int, published: int = 3) -> int:
    """Return the decoder layer before which a mid-decoder policy acts.

    Args:
        option: The configured layer, or None for the published one, scaled to the depth of this decoder and at least 1
            (some full layer must have produced the attention that is read).
        layers: Number of decoder layers.
        published: The layer of 32 that the paper names.

    Raises:
        PolicyError: The layer leaves no full layer before it or no pruned layer after it.
    """
    layer = max(1, round(published * layers / 32)) if option is None else option
    require(
        1 <= layer < layers, "insertion_layer", f"in 1..{layers - 1} for a decoder of {layers} layers", layer
    )
    return layer


def _checked(policy: str, name: str, value: object, hint: Any) -> object:
    """Return ``value`` as the annotated type (an int is a float too), or raise PolicyError."""
    for allowed in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
        if get_origin(allowed) is Literal:
            if value in get_args(allowed):
                return value
        elif get_origin(allowed) is tuple:
            if isinstance(value, (list, tuple)):
                inner = get_args(allowed)[0]
                return tuple(_checked(policy, name, item, inner) for item in value)
        elif allowed is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        elif type(value) is allowed:
            return value
    raise PolicyError(f"option {name!r} of policy {policy!r} must be {_words(hint)}, found {value!r}")


def _words(hint: Any) -> str:
    """Name a type for people: ``int``, ``int or null``, ``one of 'joint', 'per_view'``."""
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list, each {_words(get_args(hint)[0])}"
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_words(part) for part in get_args(hint))
    return "null" if hint is types.NoneType else str(hint.__name__)
