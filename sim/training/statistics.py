"""Normalisation statistics of the training data, in OpenVLA's layout."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DATASET = "saccade_tabletop"
_EPSILON = 1e-8


@dataclass(frozen=True)
class Quantiles:
    """1st and 99th percentile of each number; ``mask`` False leaves a number as it is.

    Args:
        q01: float32 ``(dim,)``.
        q99: float32 ``(dim,)``.
        mask: bool ``(dim,)``.
    """

    q01: np.ndarray
    q99: np.ndarray
    mask: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, mask: list[bool]) -> Quantiles:
        """Measure ``(samples, dim)``."""
        q01, q99 = np.quantile(values, [0.01, 0.99], axis=0).astype(np.float32)
        return cls(q01, q99, np.array(mask))

    def normalise(self, x: np.ndarray) -> np.ndarray:
        """Map q01..q99 to -1..1: float32, same shape. Source: OpenVLA (models' ``q01``/``q99`` convention)."""
        scaled = 2 * (x - self.q01) / (self.q99 - self.q01 + _EPSILON) - 1
        return np.where(self.mask, scaled, x).astype(np.float32)

    def denormalise(self, x: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`normalise`."""
        return np.where(self.mask, 0.5 * (x + 1) * (self.q99 - self.q01 + _EPSILON) + self.q01, x).astype(
            np.float32
        )

    def to_json(self) -> dict[str, list[float] | list[bool]]:
        """Plain lists."""
        return {"q01": self.q01.tolist(), "q99": self.q99.tolist(), "mask": self.mask.tolist()}


@dataclass(frozen=True)
class Statistics:
    """What actions and proprioception are normalised with."""

    action: Quantiles
    proprio: Quantiles

    @classmethod
    def measure(cls, chunks: np.ndarray, proprio: np.ndarray) -> Statistics:
        """Measure action chunks ``(frames, labels, chunk, 4)`` (first label) and proprioception ``(frames, 4)``.

        The gripper command is not normalised, as in OpenVLA.
        """
        return cls(
            Quantiles.of(chunks[:, 0].reshape(-1, chunks.shape[-1]), [True, True, True, False]),
            Quantiles.of(proprio, [True] * proprio.shape[-1]),
        )

    def to_json(self) -> dict[str, object]:
        """The content of ``statistics.json``."""
        return {DATASET: {"action": self.action.to_json(), "proprio": self.proprio.to_json()}}

    def write(self, path: Path) -> None:
        """Write ``statistics.json``."""
        path.write_text(json.dumps(self.to_json(), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Statistics:
        """Read ``statistics.json``."""
        stored = json.loads(path.read_text())[DATASET]
        parts = {
            name: Quantiles(
                np.array(stored[name]["q01"], np.float32),
                np.array(stored[name]["q99"], np.float32),
                np.array(stored[name]["mask"], bool),
            )
            for name in ("action", "proprio")
        }
        return cls(parts["action"], parts["proprio"])
