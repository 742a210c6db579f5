"""Reading demonstration shards: memory-mapped arrays behind one frame index."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from saccade.sim.training.demonstrations import SHARD_FIELDS


class Shards:
    """Several shards as one.

    Args:
        paths: Shard directories, in the order that frame indices follow.

    Attributes:
        instructions: ``instructions[frame]`` is a tuple of one instruction for each label.
    """

    def __init__(self, paths: list[Path]) -> None:
        if not paths:
            raise FileNotFoundError(
                "expected at least one demonstration shard, found none: record some first"
            )
        self._fields = {
            f: [np.load(path / f"{f}.npy", mmap_mode="r") for path in paths] for f in SHARD_FIELDS
        }
        self.instructions = [
            tuple(t) for p in paths for t in json.loads((p / "instructions.json").read_text())
        ]
        lengths = [len(array) for array in self._fields["proprio"]]
        self._shard = np.repeat(np.arange(len(paths)), lengths)
        self._row = np.concatenate([np.arange(length) for length in lengths])

    def __len__(self) -> int:
        return len(self._shard)

    def gather(self, field: str, frames: np.ndarray) -> np.ndarray:
        """Return the rows of ``field`` for the given frame indices, in order."""
        arrays = self._fields[field]
        return np.stack([arrays[self._shard[f]][self._row[f]] for f in frames])

    def whole(self, field: str) -> np.ndarray:
        """Return every row of ``field``; for small fields."""
        return np.concatenate([np.asarray(array) for array in self._fields[field]])


def in_batches(frames: np.ndarray, size: int = 32) -> list[np.ndarray]:
    """Split frame indices into batches of about ``size``."""
    return np.array_split(frames, max(1, len(frames) // size))
