"""Data-set statistics, ``statistics.json``: physical units to the model's and back.

The file has the layout and the formulas of OpenVLA's ``dataset_statistics.json``: the 1st and 99th percentile
of each dimension map to -1 and 1. Where a vector says another ``scheme``, it is ``mean_std`` (``mean``, ``std``) or
``range`` (``low``, ``high``, not clipped). Checkpoint and bundle hold the same file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import ManifestError, StatisticsError
from saccade.proto.file_errors import naming
from saccade.proto.scales import EPSILON, MEAN_STD, RANGE, SCHEME, MeanStdScale, RangeScale, Scale
from saccade.proto.strict_json import parse_json

STATISTICS_NAME = "statistics.json"


@dataclass(frozen=True)
class Statistics:
    """The scales of one data set.

    Args:
        action: Scale of actions.
        proprio: Scale of proprioception.
    """

    action: Scale
    proprio: Scale

    @classmethod
    def read(cls, path: Path, key: str, *, action_dim: int, proprio_dim: int) -> Statistics:
        """Read the scales of data set ``key``.

        Args:
            path: Path of the statistics file.
            key: Name of the data set.
            action_dim: How many numbers an action has.
            proprio_dim: How many numbers proprioception has.

        Raises:
            StatisticsError: The file is not JSON, lacks the data set, or a vector is missing, of another length or not
                finite.
            FileError: The operating system refuses to read it.
        """
        with naming(path):
            content = path.read_bytes()
        return cls.parse(content, key, path.name, action_dim=action_dim, proprio_dim=proprio_dim)

    @classmethod
    def parse(cls, content: bytes, key: str, where: str, *, action_dim: int, proprio_dim: int) -> Statistics:
        """Read the bytes of the file, which errors call ``where``; arguments and errors as :meth:`read`."""
        try:
            value = parse_json(content.decode("utf-8"))
        except (ManifestError, UnicodeDecodeError) as error:
            raise StatisticsError(f"{where}: {error}") from error
        return cls.from_json(value, key, where, action_dim=action_dim, proprio_dim=proprio_dim)

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
        scale = RangeScale(none, none, none.astype(bool))
        return cls(scale, scale)

    def never_varied(
        self, *, proprio: tuple[str, ...], action: tuple[str, ...]
    ) -> dict[str, tuple[str, ...]]:
        """Name the dimensions that were the same in all of the data set, under ``proprio`` and ``action``.

        Whatever a robot has there instead, the model was never shown it.

        Args:
            proprio: Names of the numbers of proprioception.
            action: Names of an action's numbers.
        """
        return {
            part: tuple(name for name, is_constant in zip(names, scale.constant, strict=True) if is_constant)
            for part, names, scale in (("proprio", proprio, self.proprio), ("action", action, self.action))
        }

    def to_json(self, key: str) -> dict[str, Any]:
        """Return the content of the file, as data set ``key``."""
        return {key: {"action": self.action.to_json(), "proprio": self.proprio.to_json()}}


def tell_never_varied(found: Mapping[str, tuple[str, ...]]) -> str:
    """Return what :meth:`Statistics.never_varied` found in words, ``proprio gripper; action dz``; empty if nothing."""
    return "; ".join(f"{part} {', '.join(names)}" for part, names in found.items() if names)


def _scale(value: Any, dim: int, where: str) -> Scale:
    if not isinstance(value, dict):
        raise StatisticsError(
            f"{where}: expected an object with q01 and q99, or with a scheme, found {type(value).__name__}."
        )
    scheme = value.get(SCHEME)
    if scheme is None:
        low, high = _pair(value, ("q01", "q99"), dim, where)
        mask = _vector(value.get("mask", [True] * dim), dim, f"{where}.mask", bool)
        _expect_ordered(low, high, mask, f"{where}: expected finite q99 >= q01")
        return RangeScale(low, high, mask)
    eps = value.get("eps", EPSILON)
    if type(eps) is not float or not 0 <= eps < 1:
        raise StatisticsError(f"{where}.eps: expected a number from 0 to 1, found {eps!r}.")
    everything = np.ones(dim, bool)
    if scheme == RANGE:
        low, high = _pair(value, ("low", "high"), dim, where)
        _expect_ordered(low, high, everything, f"{where}: expected finite high >= low")
        if eps == 0 and (high == low).any():
            raise StatisticsError(f"{where}: expected high above low where eps is 0, found {low} and {high}.")
        return RangeScale(low, high, everything, clips=False, eps=eps)
    if scheme == MEAN_STD:
        mean, std = _pair(value, ("mean", "std"), dim, where)
        if not np.isfinite([mean, std]).all() or (std < 0).any():
            raise StatisticsError(f"{where}: expected finite mean and std >= 0, found {mean} and {std}.")
        if eps == 0 and (std == 0).any():
            raise StatisticsError(f"{where}: expected std above 0 where eps is 0, found {std}.")
        return MeanStdScale(mean, std, eps)
    raise StatisticsError(f"{where}.{SCHEME}: expected {MEAN_STD!r} or {RANGE!r}, found {scheme!r}.")


def _pair(
    value: dict[str, Any], names: tuple[str, str], dim: int, where: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    first, second = (_vector(value.get(name), dim, f"{where}.{name}", float) for name in names)
    with np.errstate(over="ignore"):
        return first.astype(np.float32), second.astype(np.float32)


def _expect_ordered(
    low: NDArray[np.float32], high: NDArray[np.float32], mask: NDArray[np.bool_], expected: str
) -> None:
    """Refuse bounds that are not finite or upside down where the mask counts."""
    if not (
        np.isfinite(low[mask]).all() and np.isfinite(high[mask]).all() and (high[mask] >= low[mask]).all()
    ):
        raise StatisticsError(f"{expected}, found {high.tolist()} and {low.tolist()}.")


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
