"""What an operator sets for one cell: limits narrower than the bundle's, as a value and as JSON."""

from __future__ import annotations

from dataclasses import dataclass

from saccade.proto.strict_json import from_json, parse_json

NARROWABLE = ("low", "high", "velocity", "acceleration", "jerk")
"""What an operator may narrow, by name."""


@dataclass(frozen=True)
class OperatorLimits:
    """Limits that an operator sets for one cell, in the order and the units of the bundle's.

    None is the bundle's own limit of an axis, and so is a list that is empty.

    Args:
        low: Smallest position of each axis.
        high: Largest position of each axis.
        velocity: Largest speed of each axis, unit per second.
        acceleration: Largest acceleration of each axis, unit per second squared.
        jerk: Largest jerk of each axis, unit per second cubed.
    """

    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    velocity: tuple[float | None, ...] = ()
    acceleration: tuple[float | None, ...] = ()
    jerk: tuple[float | None, ...] = ()

    @staticmethod
    def from_text(text: str) -> OperatorLimits:
        """Read limits from JSON text; an unknown key is an error.

        Raises:
            ManifestError: The text is not JSON, or not of this form.
        """
        return from_json(OperatorLimits, parse_json(text))
