"""What an operator sets for one cell: limits narrower than the bundle's, as a value and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saccade.proto.errors import LimitsError, ManifestError
from saccade.proto.file_errors import read_text
from saccade.proto.strict_json import dump_json, from_json, parse_json

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

    @staticmethod
    def from_file(path: Path) -> OperatorLimits:
        """Read limits from a file of JSON.

        Args:
            path: The file.

        Raises:
            LimitsError: It is not JSON in UTF-8, or not of this form.
            FileError: The operating system refuses to read it.
        """
        try:
            return OperatorLimits.from_text(read_text(path))
        except (ManifestError, UnicodeDecodeError) as error:
            raise LimitsError(f"{path}: expected limits, as {NARROWABLE}, found: {error}") from error

    def to_text(self) -> str:
        """Return the limits as JSON text; :meth:`from_text` gives back equal ones."""
        return dump_json(self)
