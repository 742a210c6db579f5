"""Statistics of π0 and π0.5 where lerobot did not write them: transformers' processor, openpi's assets.

Source:
    transformers 5, ``PI0Processor.normalize``; openpi 15a9616, ``transforms.Normalize`` and ``Unnormalize``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.json_fields import JsonFields
from saccade.proto.errors import CheckpointError
from saccade.proto.scales import MeanStdScale, RangeScale, Scale
from saccade.proto.statistics import Statistics

PROCESSOR_NAME = "processor_config.json"
OPENPI_PATTERN = "assets/**/norm_stats.json"
_OPENPI_EPSILON = 1e-6
_PARTS: Mapping[str, str] = {"proprio": "state", "action": "actions"}


def read_processor_statistics(folder: CheckpointFolder, *, state_dim: int, action_dim: int) -> Statistics:
    """Read mean and std that transformers' processor was saved with.

    Raises:
        CheckpointError: The file or a vector is missing, too short, not finite, or a std is negative.
    """
    fields = folder.fields(PROCESSOR_NAME)
    dims = {"proprio": state_dim, "action": action_dim}
    found = {}
    for part, name in _PARTS.items():
        mean, std = (
            _vector(fields, f"{name}_{statistic}", dims[part], PROCESSOR_NAME)
            for statistic in ("mean", "std")
        )
        _expect_ordered(np.zeros_like(std), std, f"{PROCESSOR_NAME}: {name}_std")
        found[part] = MeanStdScale(mean, std)
    return Statistics(**found)


def read_openpi_statistics(
    folder: CheckpointFolder, key: str, *, state_dim: int, action_dim: int, is_quantile: bool
) -> Statistics:
    """Read openpi's statistics of one data set.

    Args:
        folder: The checkpoint whose statistics are read.
        key: Name of the data set, the file's folder below ``assets``; empty = the only one.
        state_dim: Numbers of proprioception that the robot has.
        action_dim: Numbers of an action that the robot has.
        is_quantile: The 1st and 99th percentile become -1 and 1 (π0.5), instead of mean and std.

    Raises:
        CheckpointError: The folder has no statistics of openpi, none of that name, or several and ``key`` is empty; or
            a vector is missing, too short, not finite or upside down.
    """
    where = _openpi_file(folder, key)
    fields = folder.fields(where).child("norm_stats")
    dims = {"proprio": state_dim, "action": action_dim}
    return Statistics(
        **{
            part: _openpi_scale(fields.child(name), dims[part], f"{where}: {name}", is_quantile=is_quantile)
            for part, name in _PARTS.items()
        }
    )


def _openpi_file(folder: CheckpointFolder, key: str) -> str:
    """Return the path of one data set's statistics within the folder; a file of the only one may have any name."""
    files = {
        file.parent.relative_to(folder.path / "assets").as_posix(): file.relative_to(folder.path).as_posix()
        for file in sorted(folder.path.glob(OPENPI_PATTERN))
    }
    if len(files) == 1 and not key:
        return next(iter(files.values()))
    if key not in files:
        raise CheckpointError(
            f"expected one {OPENPI_PATTERN} in {folder.name}/, found {len(files)}"
            + (f" ({', '.join(files)}); say in embodiment.json, statistics_key, which" if files else "")
            + (f", found {key!r}" if key else "")
            + ("." if files else "; copy assets/ of the checkpoint that this was converted from.")
        )
    return files[key]


def _openpi_scale(fields: JsonFields, dim: int, where: str, *, is_quantile: bool) -> Scale:
    eps = np.float32(_OPENPI_EPSILON)
    if is_quantile:
        low, high = (_vector(fields, name, dim, where) for name in ("q01", "q99"))
        _expect_ordered(low, high, f"{where}: q99")
        return RangeScale(low, high + eps, np.ones(dim, bool), clips=False)
    mean, std = (_vector(fields, name, dim, where) for name in ("mean", "std"))
    _expect_ordered(np.zeros_like(std), std, f"{where}: std")
    return MeanStdScale(mean, std + eps, 0.0)  # openpi adds it on the way back too


def _vector(fields: JsonFields, name: str, dim: int, where: str) -> NDArray[np.float32]:
    """Read the first ``dim`` numbers of a vector; padding to the model's width may follow."""
    numbers = np.array(fields.items(name, float), np.float32)
    if len(numbers) < dim or not np.isfinite(numbers[:dim]).all():
        raise CheckpointError(
            f"{where}: {name}: expected at least {dim} finite numbers, found {numbers.tolist()}."
        )
    return numbers[:dim]


def _expect_ordered(low: NDArray[np.float32], high: NDArray[np.float32], where: str) -> None:
    if (high < low).any():
        raise CheckpointError(f"{where}: expected at least {low.tolist()}, found {high.tolist()}.")
