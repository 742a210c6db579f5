"""The limiter: the last thing between the model and the arm. It fails closed.

Each number of a chunk falls in one of three bands: *pass*, within the limits; *clamp*, a little outside: moved to
the limit and counted; *reject*, so far outside (or not finite) that the model must be wrong: the whole chunk is
refused. Rows follow each other one control step apart, so their differences are limited too. It is not a
safety-rated device.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import ActionRefusedError
from saccade.proto.manifest import LimitsSpec


class Limiter:
    """Enforces the manifest's limits.

    Args:
        limits: Lowest and highest value and largest change from row to row of each action dimension, physical units.
        names: Names of the action dimensions, for messages.
        reject_margin: Width of the clamp band on each side, as a fraction of ``high - low``.
    """

    def __init__(self, limits: LimitsSpec, names: tuple[str, ...], *, reject_margin: float = 1.0) -> None:
        self._names = names
        # A limit beyond float32 is none; what is not finite is refused anyway.
        with np.errstate(over="ignore"):
            self._low = np.array(limits.low, np.float32)
            self._high = np.array(limits.high, np.float32)
            self._max_change = np.array(limits.max_change, np.float32)
            margin = reject_margin * (self._high - self._low)
            self._reject_low, self._reject_high = self._low - margin, self._high + margin

    def limit(self, actions: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
        """Pass, clamp or refuse a chunk.

        Args:
            actions: float32 ``(chunk, dim)``, physical units.

        Returns:
            The chunk within the limits, and how many numbers were changed.

        Raises:
            ActionRefusedError: A number is not finite or lies in the reject band.
        """
        accepted = np.isfinite(actions) & (actions >= self._reject_low) & (actions <= self._reject_high)
        if not accepted.all():
            self._refuse(actions, accepted)
        limited = np.clip(actions, self._low, self._high)
        if (np.abs(np.diff(limited, axis=0)) > self._max_change).any():
            for row in range(1, len(limited)):
                previous = limited[row - 1]
                limited[row] = np.clip(limited[row], previous - self._max_change, previous + self._max_change)
        return limited, int(np.count_nonzero(limited != actions))

    def _refuse(self, actions: NDArray[np.float32], accepted: NDArray[np.bool_]) -> None:
        row, column = np.argwhere(~accepted)[0]
        raise ActionRefusedError(
            f"action {self._names[column]!r} at control step {row} of the chunk: expected a finite number within "
            f"{self._reject_low[column]:g}..{self._reject_high[column]:g}, found {actions[row, column]:g}: "
            f"the whole chunk is refused; hold the arm and reset."
        )
