"""Data-set statistics: physical units to the model's and back.

The file has the layout and the formulas of OpenVLA's ``dataset_statistics.json``: the 1st and 99th percentile
of each dimension map to -1 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import BundleError
from saccade.proto.strict_json import parse_json

_EPSILON = 1e-8


@dataclass(frozen=True)
class Scale:
    """The linear map of one vector.

    Args:
        low: float32 ``(dim,)``, the value that becomes -1.
        high: float32 ``(dim,)``, the value that becomes 1.
        mask: bool ``(dim,)``, True = scaled, False = passed as it is.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    mask: NDArray[np.bool_]

    def normalise(self, physical: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map ``(..., dim)`` to the model's range, clipped to [-1, 1] where scaled."""
        scaled = 2 * (physical - self.low) / (self.high - self.low + _EPSILON) - 1
        return np.where(self.mask, np.clip(scaled, -1, 1), physical).astype(np.float32, copy=False)

    def unnormalise(self, normalised: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map ``(..., dim)`` back to physical units."""
        scaled = 0.5 * (normalised + 1) * (self.high - self.low + _EPSILON) + self.low
        return np.where(self.mask, scaled, normalised).astype(np.float32, copy=False)


@dataclass(frozen=True)
class Statistics:
    """The scales of one data set."""

    action: Scale
    proprio: Scale

    @classmethod
    def read(cls, path: Path, key: str, *, action_dim: int, proprio_dim: int) -> Statistics:
        """Read the scales of data set ``key``.

        Raises:
            BundleError: No such data set, or a vector is missing, of the wrong length or not finite.
        """
        value = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict) or not isinstance(value.get(key), dict):
            raise BundleError(f"{path.name}: expected statistics of data set {key!r}, found none.")
        return cls(
            action=_scale(value[key].get("action"), action_dim, f"{path.name}: {key}.action"),
            proprio=_scale(value[key].get("proprio"), proprio_dim, f"{path.name}: {key}.proprio"),
        )


def _scale(value: Any, dim: int, where: str) -> Scale:
    if not isinstance(value, dict):
        raise BundleError(f"{where}: expected an object with q01 and q99, found {type(value).__name__}.")
    low, high = (_vector(value.get(name), dim, f"{where}.{name}", float) for name in ("q01", "q99"))
    mask = _vector(value.get("mask", [True] * dim), dim, f"{where}.mask", bool)
    if not (high[mask] >= low[mask]).all():
        raise BundleError(f"{where}: expected q99 >= q01, found {high.tolist()} and {low.tolist()}.")
    return Scale(low.astype(np.float32), high.astype(np.float32), mask)


def _vector(value: Any, dim: int, where: str, kind: type) -> NDArray[Any]:
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, list) or len(value) != dim or any(type(item) not in accepted for item in value):
        raise BundleError(f"{where}: expected a list of {dim} of type {kind.__name__}, found {value!r:.80}.")
    return np.array(value, dtype=kind)
