"""Statistics of the data sets that a published robot model was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.json_fields import JsonFields
from saccade.proto.errors import CheckpointError

DATA_SETS_NAME = "dataset_statistics.json"
_CONFIG_NAME = "config.json"


class Bounds(NamedTuple):
    """The physical values that become -1 and 1, for each dimension.

    Args:
        low: Value that becomes -1, ``(dim,)``, in physical units.
        high: Value that becomes 1, ``(dim,)``, in physical units.
        mask: True = the dimension is scaled, False = passed as it is; ``(dim,)``.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    mask: tuple[bool, ...]


@dataclass(frozen=True)
class DataSet:
    """Statistics of one data set.

    Args:
        name: Key of the data set in the file.
        where: File, or place in a file, that errors name.
        values: Parts ``action`` and ``proprio``, each with ``q01``, ``q99``, ``min``, ``max`` ... for each dimension.
    """

    name: str
    where: str
    values: Mapping[str, Any]

    def bounds(self, part: str, low: str, high: str) -> Bounds:
        """Return which physical values become -1 and 1.

        Args:
            part: Numbers that are asked for: ``action`` or ``proprio``.
            low: Statistic that becomes -1, e.g. ``q01``.
            high: Statistic that becomes 1, e.g. ``q99``.

        Raises:
            CheckpointError: Something is missing, of different lengths, not finite, or upside down.
        """
        fields = JsonFields(self.values, self.where).child(part)
        lows, highs = fields.items(low, float), fields.items(high, float)
        mask = fields.items("mask", bool) if fields.has("mask") else (True,) * len(lows)
        if not lows or not len(lows) == len(highs) == len(mask):
            raise CheckpointError(
                f"{self.where}: {part}: expected {low}, {high} and mask of one length, found {len(lows)}, {len(highs)} "
                f"and {len(mask)}."
            )
        for dim, (least, most) in enumerate(zip(lows, highs, strict=True)):
            if mask[dim] and not (isfinite(least) and isfinite(most) and least <= most):
                raise CheckpointError(
                    f"{self.where}: {part}: dimension {dim}: expected finite {low} <= {high}, found {least} and {most}."
                )
        return Bounds(lows, highs, mask)


def read_data_set(folder: CheckpointFolder, key: str | None) -> DataSet:
    """Read the statistics: ``dataset_statistics.json`` of a fine-tuned checkpoint, else ``norm_stats`` of its config.

    Args:
        folder: The checkpoint whose statistics are read.
        key: Name of the data set; None = the only one.

    Raises:
        CheckpointError: The checkpoint has no statistics, none of that name, or several and ``key`` is None.
    """
    where, values = f"{_CONFIG_NAME}: norm_stats", folder.config.get("norm_stats")
    if folder.has(DATA_SETS_NAME):
        where, values = DATA_SETS_NAME, folder.read(DATA_SETS_NAME)
    if not isinstance(values, Mapping) or not values:
        raise CheckpointError(
            f"expected statistics of at least one data set in {DATA_SETS_NAME} or in {_CONFIG_NAME} under norm_stats, "
            "found none; copy what the model was trained with."
        )
    if key is None and len(values) > 1:
        raise CheckpointError(
            f"{where}: expected a choice (statistics_key) among the data sets {', '.join(values)}, found none."
        )
    name = next(iter(values)) if key is None else key
    if name not in values:
        raise CheckpointError(f"{where}: expected one of the data sets {', '.join(values)}, found {name!r}.")
    if not isinstance(values[name], Mapping):
        raise CheckpointError(f"{where}: {name}: expected an object, found {type(values[name]).__name__}.")
    return DataSet(name, f"{where}: {name}", values[name])
