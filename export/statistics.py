"""Normalisation statistics of a checkpoint: ``statistics.json`` in the layout of OpenVLA's dataset statistics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import CheckpointError

STATISTICS_NAME = "statistics.json"
_EPSILON = 1e-8


@dataclass(frozen=True)
class Quantiles:
    """The linear map q01..q99 -> -1..1 of one vector.

    Args:
        q01: float32 ``(dim,)``.
        q99: float32 ``(dim,)``.
        mask: bool ``(dim,)``; a number where it is False is passed as it is.
    """

    q01: NDArray[np.float32]
    q99: NDArray[np.float32]
    mask: NDArray[np.bool_]

    @property
    def physical_per_unit(self) -> NDArray[np.float32]:
        """Physical size of one normalised unit, ``(dim,)``."""
        return np.where(self.mask, 0.5 * (self.q99 - self.q01 + _EPSILON), 1.0).astype(np.float32)

    def normalise(self, physical: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map ``(..., dim)`` to the model's range, clipped to [-1, 1] as OpenVLA-OFT does."""
        scaled = 2 * (physical - self.q01) / (self.q99 - self.q01 + _EPSILON) - 1
        return np.where(self.mask, np.clip(scaled, -1, 1), physical).astype(np.float32)


@dataclass(frozen=True)
class Statistics:
    """The maps of one data set."""

    action: Quantiles
    proprio: Quantiles


def read_statistics(checkpoint: Path, key: str, *, action_dim: int, proprio_dim: int) -> Statistics:
    """Read data set ``key`` of ``statistics.json``.

    Raises:
        CheckpointError: File, data set or vector is missing or of the wrong length.
    """
    path = checkpoint / STATISTICS_NAME
    if not path.is_file():
        raise CheckpointError(
            f"expected {STATISTICS_NAME} in {checkpoint.name}/, found none; copy the data set statistics that the "
            "model was trained with (OpenVLA: dataset_statistics.json)."
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{STATISTICS_NAME}: expected JSON, found: {error}.") from error
    if not isinstance(value, dict) or not isinstance(value.get(key), dict):
        known = ", ".join(value) if isinstance(value, dict) else "none"
        raise CheckpointError(f"{STATISTICS_NAME}: expected data set {key!r}, found {known}.")
    return Statistics(
        action=_quantiles(value[key], "action", action_dim, key),
        proprio=_quantiles(value[key], "proprio", proprio_dim, key),
    )


def _quantiles(dataset: Mapping[str, Any], name: str, dim: int, key: str) -> Quantiles:
    where, entry = f"{STATISTICS_NAME}: {key}.{name}", dataset.get(name)
    if not isinstance(entry, dict):
        raise CheckpointError(f"{where}: expected an object with q01 and q99, found none.")
    vectors = {}
    for field, default in (("q01", None), ("q99", None), ("mask", [True] * dim)):
        vector = entry.get(field, default)
        if not isinstance(vector, list) or len(vector) != dim:
            found = len(vector) if isinstance(vector, list) else "none"
            raise CheckpointError(f"{where}.{field}: expected {dim} values, found {found}.")
        vectors[field] = vector
    return Quantiles(
        np.array(vectors["q01"], np.float32),
        np.array(vectors["q99"], np.float32),
        np.array(vectors["mask"], bool),
    )
