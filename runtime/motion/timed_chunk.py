"""A chunk on the clock: row ``i`` is for ``captured + i`` control steps, and nothing is beyond its last row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from saccade.proto.axis_kind import AxisKind
from saccade.runtime.motion.axis_geometry import AxisGeometry
from saccade.runtime.motion.motion_limits import MotionLimits

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TimedChunk:
    """Actions with the times they are for. Between two rows a place moves evenly; deltas and discrete axes step.

    Args:
        actions: float32 ``(chunk, dim)``, physical units.
        captured_ns: When the observation was captured that they answer: valid from here.
        period_ns: Nanoseconds of one control step.
    """

    actions: NDArray[np.float32]
    captured_ns: int
    period_ns: int

    @cached_property
    def expires_ns(self) -> int:
        """When the last row's control step ends: not valid from here on."""
        return self.captured_ns + len(self.actions) * self.period_ns

    def is_valid(self, now_ns: int) -> bool:
        """Return whether there is an action for ``now_ns``."""
        return self.captured_ns <= now_ns < self.expires_ns

    def at(self, now_ns: int, limits: MotionLimits, geometry: AxisGeometry) -> Array:
        """Return the command for a time, float64 ``(dim,)``; a delta is that of a whole control step.

        Args:
            now_ns: The time; behind the last row the robot is wanted to stay there.
            limits: Kinds of the axes.
            geometry: Ways between commands.
        """
        row, rest_ns = divmod(max(0, now_ns - self.captured_ns), self.period_ns)
        last = len(self.actions) - 1
        here: Array = self.actions[min(row, last)].astype(np.float64)
        if rest_ns == 0 or row >= last:
            return here
        way = geometry.way(here, self.actions[row + 1]) * (rest_ns / self.period_ns)
        steps = limits.is_kind(AxisKind.DISCRETE) | np.array(limits.is_delta, bool)
        between: Array = np.where(steps, here, geometry.along(here, way))
        return between
