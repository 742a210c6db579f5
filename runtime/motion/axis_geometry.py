"""From two commands to the way between them, and back: differences, shortest turns, deltas as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.proto.axis_kind import AxisKind
from saccade.runtime.motion import rotations
from saccade.runtime.motion.motion_limits import MotionLimits

Array = NDArray[np.float64]


class AxisGeometry:
    """Ways between commands, axis by axis.

    A *way* is float64 ``(..., dim)``: metres or radians that the robot goes from one command to another. Three axes of
    a rotation go along the vector of the shortest turn, in the frame of the rotation that they start from.

    Args:
        limits: Kinds of the axes.
    """

    def __init__(self, limits: MotionLimits) -> None:
        is_delta = np.array(limits.is_delta, bool)
        self._delta = is_delta
        angles = limits.is_kind(AxisKind.ANGLE) & ~is_delta
        self._angles = angles
        self._round = angles & ~np.isfinite(limits.low)
        starts = np.array(limits.rotation_starts, int)
        columns = starts[:, None] + np.arange(3)
        vectors = limits.is_kind(AxisKind.AXIS_ANGLE)[starts] if starts.size else np.zeros(0, bool)
        self._vectors, self._turns = columns[vectors], columns[~vectors]
        self.rotations = columns
        """int ``(rotations, 3)``: the axes of each rotation."""

    def way(self, start: NDArray[np.floating[Any]], command: NDArray[np.floating[Any]]) -> Array:
        """Return the way that a command goes.

        Args:
            start: float32 or float64 ``(..., dim)``, the command before; what it holds for deltas is not looked at.
            command: float32 or float64 ``(..., dim)``.
        """
        goal, begin = command.astype(np.float64), start.astype(np.float64)
        gone = np.where(self._delta, goal, goal - begin)
        turn = gone[..., self._angles]
        gone[..., self._angles] = turn - 2 * np.pi * np.round(turn / (2 * np.pi))
        for columns, quaternion in self._rotations():
            goals, begins = quaternion(goal[..., columns]), quaternion(begin[..., columns])
            is_delta = self._delta[columns[:, :1]]
            gone[..., columns] = rotations.to_vector(
                np.where(is_delta, goals, rotations.times(rotations.inverse(begins), goals))
            )
        return gone

    def along(self, start: NDArray[np.floating[Any]], way: Array) -> Array:
        """Return the command, float64 ``(..., dim)``, that goes a way.

        Args:
            start: float32 or float64 ``(..., dim)``, the command before.
            way: float64 ``(..., dim)``.
        """
        begin = start.astype(np.float64)
        command = np.where(self._delta, way, begin + way)
        turned = command[..., self._round]
        command[..., self._round] = turned - 2 * np.pi * np.round(turned / (2 * np.pi))
        for columns, quaternion in self._rotations():
            turn = rotations.from_vector(way[..., columns])
            is_delta = self._delta[columns[:, :1]]
            goals = np.where(is_delta, turn, rotations.times(quaternion(begin[..., columns]), turn))
            is_vector = quaternion is rotations.from_vector
            command[..., columns] = (rotations.to_vector if is_vector else rotations.to_roll_pitch_yaw)(goals)
        return command

    def _rotations(self) -> Iterator[tuple[NDArray[np.int_], Callable[[Array], Array]]]:
        if self._vectors.size:
            yield self._vectors, rotations.from_vector
        if self._turns.size:
            yield self._turns, rotations.from_roll_pitch_yaw
