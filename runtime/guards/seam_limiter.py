"""Limits a chunk from the commands that were carried out before it: no jump where two chunks meet.

For clients that send actions to their motors as they come. A client that limits commands at the robot's own rate
(:mod:`saccade.runtime.motion`) does better, for it knows what it sent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.proto.axis_kind import AxisKind
from saccade.proto.errors import ActionRefusedError
from saccade.runtime.guards.played_commands import DEPTH, PlayedCommands
from saccade.runtime.motion.axis_geometry import AxisGeometry
from saccade.runtime.motion.command_limiter import CommandLimiter
from saccade.runtime.motion.motion_limits import MotionLimits

Array = NDArray[np.float64]
_DERIVATIVES = ("velocity", "acceleration", "jerk")


@dataclass(frozen=True)
class LimitedChunk:
    """A chunk that may leave.

    Args:
        actions: float32 ``(chunk, dim)``, physical units, within the limits.
        moved: bool ``(chunk, dim)``: which numbers were moved to keep them.
    """

    actions: NDArray[np.float32]
    moved: NDArray[np.bool_]


class SeamLimiter:
    """Checks a session's chunks against position, velocity, acceleration and jerk, differences over one control step.

    What breaks a limit is moved within it, or the chunk is refused as a whole; what cannot be moved within is refused
    in any case. Whatever leaves was checked.

    Args:
        limits: Limits of each axis.
        refuses: Whether a chunk that breaks a limit is refused instead of moved.
        pose_columns: For each axis the number of proprioception that is its place; empty = none is known to be, then
            the first action of an episode is not held to where the robot stands.

    Raises:
        InputError: float32 is too coarse for such limits at that rate.
    """

    def __init__(
        self, limits: MotionLimits, *, refuses: bool = False, pose_columns: tuple[int, ...] = ()
    ) -> None:
        self._limits, self._refuses, self._columns = limits, refuses, list(pose_columns)
        period_ns = round(limits.period_s * 1e9)
        self._period_ns = period_ns
        self._geometry = AxisGeometry(limits)
        self._mover = CommandLimiter(limits, min_step_ns=period_ns, max_step_ns=period_ns)
        self._played = PlayedCommands(self._geometry, limits.dim, period_ns)
        self._delta = np.array(limits.is_delta, bool)
        self._low, self._high = np.array(limits.low), np.array(limits.high)
        rates = np.array([getattr(limits, word) for word in _DERIVATIVES], np.float64)
        for columns in self._geometry.rotations:
            rates[:, columns] = rates[:, columns].min(axis=1, keepdims=True)
        self._most = rates * limits.period_s ** np.arange(1, 4)[:, None]

    def reset(self) -> None:
        """Begin an episode: the robot stands, where the next observation says."""
        self._played.reset()

    def limit(
        self,
        actions: NDArray[np.float32],
        *,
        proprio: NDArray[np.float32],
        seen_ns: int,
        executed: int | None = None,
    ) -> LimitedChunk:
        """Pass, move or refuse a chunk; the next one goes on from it only once :meth:`note` is called.

        Args:
            actions: float32 ``(chunk, dim)``, physical units, finite.
            proprio: float32 ``(proprio,)``: what the robot measured; read in an episode's first control step.
            seen_ns: When the observation was captured, nanoseconds on the clock of :meth:`note`.
            executed: How many actions of the chunk before the client played; None = told by the time.

        Raises:
            ActionRefusedError: A limit is broken, and chunks are refused or this one cannot be moved within.
            ProprioError: The robot stands more than a tenth of the range outside of its limits.
        """
        self._played.play(seen_ns, executed)
        place = self._played.place
        if place is None:
            place = self._first_place(actions[0], proprio)
            self._played.stand(place)
        broken = self._broken(actions, place)
        if not broken.any():
            return LimitedChunk(actions, np.zeros(actions.shape, bool))
        if self._refuses:
            self._refuse(actions, broken, "")
        moved = self._moved(actions, place)
        still_broken = self._broken(moved, place)
        if still_broken.any():
            self._refuse(actions, broken, " and cannot be moved within")
        return LimitedChunk(moved, moved != actions)

    def note(self, actions: NDArray[np.float32], sent_ns: int) -> None:
        """Take note of a chunk that leaves.

        Args:
            actions: float32 ``(chunk, dim)``, as :meth:`limit` returned it.
            sent_ns: When, monotonic nanoseconds.
        """
        self._played.note(actions, sent_ns)

    def _first_place(self, first: NDArray[np.float32], proprio: NDArray[np.float32]) -> Array:
        """Return where the robot stands, float64 ``(dim,)``; a discrete axis has no measured command: any may come."""
        if not self._columns:
            return first.astype(np.float64)
        is_free = self._limits.is_kind(AxisKind.DISCRETE) | self._delta
        return np.where(is_free, first, np.append(proprio, 0)[self._columns]).astype(np.float64)

    def _broken(self, actions: NDArray[np.float32], place: Array) -> NDArray[np.bool_]:
        """Return which limit each number breaks: bool ``(4, chunk, dim)``: position, velocity, acceleration, jerk."""
        rows = actions.astype(np.float64)
        ways = self._geometry.way(np.concatenate([place[None], rows[:-1]]), rows)
        rounding = np.spacing(np.abs(actions)).astype(np.float64).max(axis=0)
        low, high = np.minimum(self._low, place), np.maximum(self._high, place)
        is_out = (rows < low - rounding) | (rows > high + rounding)
        found = [is_out & ~self._delta]
        differences = np.concatenate([self._played.ways, ways])
        for order in range(DEPTH + 1):
            size = np.abs(differences[-len(rows) :])
            for columns in self._geometry.rotations:
                size[:, columns] = np.linalg.norm(size[:, columns], axis=1, keepdims=True)
            # A rotation's three rounded numbers add up.
            found.append(size > self._most[order] * (1 + 1e-6) + 3 * 2**order * rounding)
            differences = np.diff(differences, axis=0)
        return np.stack(found)

    def _moved(self, actions: NDArray[np.float32], place: Array) -> NDArray[np.float32]:
        self._mover.resume(place, self._played.ways, 0)
        moved = np.empty_like(actions)
        for row, wanted in enumerate(actions):
            moved[row] = self._mover.limit(wanted, (row + 1) * self._period_ns).values
        return moved

    def _refuse(self, actions: NDArray[np.float32], broken: NDArray[np.bool_], why: str) -> None:
        row = int(np.flatnonzero(broken.any(axis=(0, 2)))[0])
        kind, column = np.argwhere(broken[:, row])[0]
        word = ("position", *_DERIVATIVES)[kind]
        raise ActionRefusedError(
            f"action {self._limits.names[column]!r} at control step {row} of the chunk: expected to follow on within "
            f"the limit of {word}, found {actions[row, column]:g} where the commands before lead elsewhere{why}: the "
            "whole chunk is refused; hold the arm and reset."
        )


def pose_columns(
    limits: MotionLimits, action_units: tuple[str, ...], names: tuple[str, ...], units: tuple[str, ...]
) -> tuple[int, ...]:
    """Return which number of proprioception is the place of each axis; empty unless names and units say so for all.

    Args:
        limits: Names and kinds of the axes.
        action_units: Unit of each axis.
        names: Names of proprioception.
        units: Units of proprioception.

    Returns:
        One index for each axis, -1 for those that have no place: deltas and discrete ones.
    """
    columns = []
    for axis, unit, is_delta, kind in zip(
        limits.names, action_units, limits.is_delta, limits.kinds, strict=True
    ):
        if is_delta or kind is AxisKind.DISCRETE:
            columns.append(-1)
        elif axis in names and units[names.index(axis)] == unit:
            columns.append(names.index(axis))
        else:
            return ()
    return tuple(columns)
