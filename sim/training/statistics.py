"""Normalisation statistics, measured on the training data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from saccade.proto.scales import RangeScale
from saccade.proto.statistics import STATISTICS_NAME, Statistics
from saccade.sim.tabletop.world import ACTION_NAMES, PROPRIO_NAMES
from saccade.sim.training.shards import Shards

DATASET = "saccade_tabletop"


def measure_statistics(shards: Shards) -> Statistics:
    """Return 1st and 99th percentiles of first labels and proprioception; the gripper command stays as it is."""
    chunks = shards.whole("chunks")[:, 0]
    return Statistics(
        action=_scale(chunks.reshape(-1, chunks.shape[-1]), [name != "gripper" for name in ACTION_NAMES]),
        proprio=_scale(shards.whole("proprio"), [True for _ in PROPRIO_NAMES]),
    )


def write_statistics(statistics: Statistics, folder: Path) -> None:
    """Write ``statistics.json`` of a run."""
    (folder / STATISTICS_NAME).write_text(json.dumps(statistics.to_json(DATASET), indent=2) + "\n")


def read_statistics(folder: Path) -> Statistics:
    """Read ``statistics.json`` of a run or a checkpoint of this project.

    Raises:
        StatisticsError: The file lacks this data set, or is broken.
    """
    return Statistics.read(
        folder / STATISTICS_NAME, DATASET, action_dim=len(ACTION_NAMES), proprio_dim=len(PROPRIO_NAMES)
    )


def _scale(values: np.ndarray, mask: list[bool]) -> RangeScale:
    q01, q99 = np.quantile(values, [0.01, 0.99], axis=0).astype(np.float32)
    return RangeScale(q01, q99, np.array(mask))
