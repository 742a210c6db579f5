"""Options of token-selection policies: frozen dataclasses of plain JSON values, checked on the way in.

The same values travel from the command line through the policy into the bundle's manifest.
"""

from __future__ import annotations

import difflib
import json
import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from saccade.proto.errors import PolicyError

ConfigT = TypeVar("ConfigT", bound="PolicyConfig")

_BOX = "tunable"


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Base of the options of one policy. Subclasses check ranges in ``__post_init__``."""

    def as_dict(self) -> dict[str, object]:
        """Return the options as plain JSON values; :meth:`from_options` takes them back."""
        plain: dict[str, object] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_options(cls: type[ConfigT], policy: str, options: Mapping[str, object]) -> ConfigT:
        """Build the options of ``policy`` from untyped values.

        Raises:
            PolicyError: An option is unknown, of the wrong type, or out of range.
        """
        hints = get_type_hints(cls)
        known = [option.name for option in fields(cls)]
        for name in options:
            if name not in known:
                raise PolicyError(f"policy {policy!r} has no option {name!r}; {suggest(name, known)}")
        return cls(**{name: _checked(policy, name, value, hints[name]) for name, value in options.items()})


@dataclass(frozen=True)
class Tunable:
    """Where a search may look for the value of one option.

    Args:
        kind: What is searched: ``float`` and ``int``: the range ``low..high``, ends included; ``choice``: one of
            ``choices``.
        low: Lower end of the range; 0 for a choice.
        high: Upper end of the range; 0 for a choice.
        choices: Values to choose from; empty unless ``kind`` is ``choice``.
    """

    kind: Literal["float", "int", "choice"]
    low: float = 0.0
    high: float = 0.0
    choices: tuple[object, ...] = ()


class _Box(NamedTuple):
    low: float | None
    high: float | None
    of: str | None
    least: float


def tunable(
    default: Any,
    low: int | float | None = None,
    high: int | float | None = None,
    *,
    of: str | None = None,
    least: float = -math.inf,
) -> Any:
    """Declare an option of a policy's config that a search may set.

    The values are those that are worth trying on any model, narrower than what ``__post_init__`` accepts.

    Args:
        default: Value of the option where nothing is said, as in a plain declaration.
        low: Smallest value to try; None for an option of type ``Literal``, all of whose values may be tried.
        high: Largest value to try.
        of: What both are shares of, where what is worth trying grows with the model: a unit of :attr:`Grid.units`.
        least: Smallest value to try, however small the model is.
    """
    return field(default=default, metadata={_BOX: _Box(low, high, of, least)})


def search_space(config_class: type[PolicyConfig], units: Mapping[str, float]) -> dict[str, Tunable]:
    """Return the options of a policy that a search may set, in the order declared; the others stay as they are.

    Args:
        config_class: Options of the policy.
        units: What boxes may be shares of, by name: :attr:`Grid.units` of the model.
    """
    hints = get_type_hints(config_class)
    return {
        option.name: _tunable(hints[option.name], option.metadata[_BOX], units)
        for option in fields(config_class)
        if _BOX in option.metadata
    }


def suggest(name: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'? Known: ..." for an unknown name."""
    known = sorted(known)
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    guess = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"{guess}known: {', '.join(known) or 'none'}"


def require(holds: bool, option: str, expected: str, found: object) -> None:
    """Raise unless an option's value is in its range.

    Args:
        holds: Whether the value is in its range.
        option: Name of the option.
        expected: What the value must be, for the message.
        found: The value.

    Raises:
        PolicyError: ``holds`` is False.
    """
    if not holds:
        raise PolicyError(f"option {option!r} must be {expected}, found {found!r}")


def resolve_insertion_layer(option: int | None, layers: int, published: int = 3) -> int:
    """Return the decoder layer before which a mid-decoder policy cuts.

    Args:
        option: The configured layer, or None for the published one, scaled to the depth of this decoder and at least 1
            (some full layer must have produced the attention that is read).
        layers: How many layers the decoder has.
        published: Layer of 32 that the paper names.

    Raises:
        PolicyError: The layer leaves no full layer before it or no pruned layer after it.
    """
    layer = max(1, round(published * layers / 32)) if option is None else option
    require(
        1 <= layer < layers, "insertion_layer", f"in 1..{layers - 1} for a decoder of {layers} layers", layer
    )
    return layer


def _tunable(hint: Any, box: _Box, units: Mapping[str, float]) -> Tunable:
    """Return the search range of one option from its type and what :func:`tunable` was told."""
    if box.low is None or box.high is None:
        return Tunable("choice", choices=get_args(hint))
    plain = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    unit = 1.0 if box.of is None else units[box.of]
    low, high = (max(float(end) * unit, box.least) for end in (box.low, box.high))
    return Tunable("int" if int in plain else "float", low, high)


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
    raise PolicyError(f"option {name!r} of policy {policy!r} must be {_described(hint)}, found {value!r}")


def _described(hint: Any) -> str:
    """Name a type for people: ``int``, ``int or null``, ``one of 'joint', 'per_view'``."""
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list, each {_described(get_args(hint)[0])}"
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_described(part) for part in get_args(hint))
    return "null" if hint is types.NoneType else str(hint.__name__)
