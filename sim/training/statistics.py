"""Normalisation statistics, measured on the training data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from saccade.proto.scales import RangeScale
from saccade.proto.statistics import STATISTICS_NAME, Statistics
from saccade.sim.tabletop.arm import ACTION_NAMES, PROPRIO_NAMES
from saccade.sim.tabletop.table import Table
from saccade.sim.training.shards import Shards


def measure_statistics(shards: Shards) -> Statistics:
    """Return 1st and 99th percentiles of first labels and proprioception; the gripper command stays as it is."""
    chunks = shards.whole("chunks")[:, 0]
    return Statistics(
        action=_scale(chunks.reshape(-1, chunks.shape[-1]), [name != "gripper" for name in ACTION_NAMES]),
        proprio=_scale(shards.whole("proprio"), [True for _ in PROPRIO_NAMES]),
    )


def write_statistics(statistics: Statistics, folder: Path, table: Table) -> None:
    """Write ``statistics.json`` of a run on a table."""
    (folder / STATISTICS_NAME).write_text(json.dumps(statistics.to_json(table.data_set), indent=2) + "\n")


def read_statistics(folder: Path, table: Table) -> Statistics:
    """Read ``statistics.json`` of a run on a table, or of a checkpoint that was trained there.

    Raises:
        StatisticsError: The file lacks this data set, or is broken.
    """
    return Statistics.read(
        folder / STATISTICS_NAME, table.data_set, action_dim=len(ACTION_NAMES), proprio_dim=len(PROPRIO_NAMES)
    )


def _scale(values: np.ndarray, mask: list[bool]) -> RangeScale:
    q01, q99 = np.quantile(values, [0.01, 0.99], axis=0).astype(np.float32)
    return RangeScale(q01, q99, np.array(mask))
