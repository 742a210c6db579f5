"""How smoothly the arm was commanded: the largest jumps where two chunks meet, and elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_AXES = 3
"""Translations; the gripper jumps."""
_SEAM_COMMANDS = 3
"""A seam is the first command of another chunk and those after it that a jerk looks back from."""


@dataclass(frozen=True)
class MotionFigures:
    """Largest absolute values over the axes and commands of an episode.

    Args:
        seam_change: Largest change of an action at a seam, metres per control step, from one command to the next.
        seam_velocity: Largest commanded speed at a seam, metres per second.
        seam_jerk: Largest commanded jerk at a seam, metres per second cubed.
        change: Largest change of an action anywhere.
        velocity: Largest commanded speed anywhere.
        jerk: Largest commanded jerk anywhere.
        seams: How many seams there were.
        clamped: Commands that were moved to keep a limit, an axis each.
        held: Commands for which no chunk had an action.
        is_latched: Whether the arm was latched.
    """

    seam_change: float
    seam_velocity: float
    seam_jerk: float
    change: float
    velocity: float
    jerk: float
    seams: int
    clamped: int
    held: int
    is_latched: bool


@dataclass
class MotionTrace:
    """Deltas as they were commanded, at an even rate; the arm stood before.

    Args:
        period_s: Seconds between two commands.
        control_s: Seconds of the model's control step.
    """

    period_s: float
    control_s: float
    _deltas: list[NDArray[np.float64]] = field(default_factory=list)
    _seams: list[int] = field(default_factory=list)

    def note_seam(self) -> None:
        """Note that the next command is the first that another chunk has a part in."""
        self._seams.append(len(self._deltas))

    def note(self, command: NDArray[np.float32]) -> None:
        """Note a command.

        Args:
            command: float32 ``(4,)``: dx, dy, dz in metres since the command before, and the gripper.
        """
        self._deltas.append(command[:_AXES].astype(np.float64))

    def figures(self, *, clamped: int = 0, held: int = 0, is_latched: bool = False) -> MotionFigures:
        """Return the largest values.

        Args:
            clamped: Commands that were moved to keep a limit, an axis each.
            held: Commands for which no chunk had an action.
            is_latched: Whether the arm was latched.
        """
        still = [np.zeros(_AXES)] * 2
        velocity = np.array([*still, *self._deltas]) / self.period_s
        acceleration = np.diff(velocity, axis=0) / self.period_s
        jerk = np.abs(np.diff(acceleration, axis=0)).max(axis=1) / self.period_s
        change = np.abs(np.diff(velocity[1:], axis=0)).max(axis=1) * self.control_s
        speed = np.abs(velocity[2:]).max(axis=1)
        near = sorted(
            {at + k for at in self._seams for k in range(_SEAM_COMMANDS) if at + k < len(self._deltas)}
        )

        def most(values: NDArray[np.float64]) -> float:
            return float(values.max(initial=0.0))

        return MotionFigures(
            most(change[near]),
            most(speed[near]),
            most(jerk[near]),
            most(change),
            most(speed),
            most(jerk),
            len(self._seams),
            clamped,
            held,
            is_latched,
        )
