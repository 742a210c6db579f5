"""Data-set statistics, ``statistics.json``: physical units to the model's and back.

The file has the layout and the formulas of OpenVLA's ``dataset_statistics.json``: the 1st and 99th percentile
of each dimension map to -1 and 1. Checkpoint and bundle hold the same file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import ManifestError, StatisticsError
from saccade.proto.strict_json import parse_json

STATISTICS_NAME = "statistics.json"
_EPSILON = 1e-8


@dataclass(frozen=True)
class Scale:
    """The linear map of one vector.

    Args:
        low: float32 ``(dim,)``, the 1st percentile: the value that becomes -1.
        high: float32 ``(dim,)``, the 99th percentile: the value that becomes 1.
        mask: bool ``(dim,)``, True = scaled, False = passed as it is.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    mask: NDArray[np.bool_]

    @property
    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Least and greatest of the usual physical values, float32 ``(dim,)`` each."""
        return self.low, self.high

    @property
    def physical_per_unit(self) -> NDArray[np.float32]:
        """Physical size of one normalised unit, float32 ``(dim,)``."""
        return np.where(self.mask, 0.5 * (self.high - self.low + _EPSILON), 1.0).astype(np.float32)

    def normalise(self, physical: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map ``(..., dim)`` to the model's range, clipped to [-1, 1] where scaled, as OpenVLA-OFT does."""
        scaled = 2 * (physical - self.low) / (self.high - self.low + _EPSILON) - 1
        return np.where(self.mask, np.clip(scaled, -1, 1), physical).astype(np.float32, copy=False)

    def unnormalise(self, normalised: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map ``(..., dim)`` back to physical units."""
        scaled = 0.5 * (normalised + 1) * (self.high - self.low + _EPSILON) + self.low
        return np.where(self.mask, scaled, normalised).astype(np.float32, copy=False)

    def to_json(self) -> dict[str, list[float] | list[bool]]:
        """Return the object that :meth:`Statistics.read` understands."""
        return {"q01": self.low.tolist(), "q99": self.high.tolist(), "mask": self.mask.tolist()}


@dataclass(frozen=True)
class Statistics:
    """The scales of one data set."""

    action: Scale
    proprio: Scale

    @classmethod
    def read(cls, path: Path, key: str, *, action_dim: int, proprio_dim: int) -> Statistics:
        """Read the scales of data set ``key``.

        Raises:
            StatisticsError: Not JSON, no such data set, or a vector is missing, of the wrong length or not finite.
        """
        try:
            value = parse_json(path.read_text(encoding="utf-8"))
        except (ManifestError, UnicodeDecodeError) as error:
            raise StatisticsError(f"{path.name}: {error}") from error
        return cls.from_json(value, key, path.name, action_dim=action_dim, proprio_dim=proprio_dim)

    @classmethod
    def from_json(cls, value: Any, key: str, where: str, *, action_dim: int, proprio_dim: int) -> Statistics:
        """Read the content of the file, which errors call ``where``; arguments and errors as :meth:`read`."""
        if not isinstance(value, dict) or not isinstance(value.get(key), dict):
            known = ", ".join(map(repr, value)) if isinstance(value, dict) and value else "none"
            raise StatisticsError(f"{where}: expected statistics of data set {key!r}, found {known}.")
        return cls(
            action=_scale(value[key].get("action"), action_dim, f"{where}: {key}.action"),
            proprio=_scale(value[key].get("proprio"), proprio_dim, f"{where}: {key}.proprio"),
        )

    @classmethod
    def empty(cls) -> Statistics:
        """Return the scales of a bundle without actions and proprioception."""
        none = np.zeros(0, np.float32)
        scale = Scale(none, none, none.astype(bool))
        return cls(scale, scale)

    def to_json(self, key: str) -> dict[str, Any]:
        """Return the content of the file, as data set ``key``."""
        return {key: {"action": self.action.to_json(), "proprio": self.proprio.to_json()}}


def _scale(value: Any, dim: int, where: str) -> Scale:
    if not isinstance(value, dict):
        raise StatisticsError(f"{where}: expected an object with q01 and q99, found {type(value).__name__}.")
    low, high = (_vector(value.get(name), dim, f"{where}.{name}", float) for name in ("q01", "q99"))
    mask = _vector(value.get("mask", [True] * dim), dim, f"{where}.mask", bool)
    with np.errstate(over="ignore"):
        low, high = low.astype(np.float32), high.astype(np.float32)
    if not (
        np.isfinite(low[mask]).all() and np.isfinite(high[mask]).all() and (high[mask] >= low[mask]).all()
    ):
        raise StatisticsError(
            f"{where}: expected finite q99 >= q01, found {high.tolist()} and {low.tolist()}."
        )
    return Scale(low, high, mask)


def _vector(value: Any, dim: int, where: str, kind: type) -> NDArray[Any]:
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, list) or len(value) != dim or any(type(item) not in accepted for item in value):
        raise StatisticsError(
            f"{where}: expected a list of {dim} of type {kind.__name__}, found {value!r:.80}."
        )
    try:
        return np.array(value, dtype=kind)
    except OverflowError as error:
        raise StatisticsError(f"{where}: expected numbers that fit a float, found {value!r:.80}.") from error
