"""What a control loop needs of a robot: look, measure, send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """What the robot senses at one moment.

    Args:
        images: View name to uint8 RGB ``(height, width, 3)``.
        proprio: float32 ``(dim,)`` in the physical units that the manifest names.
        captured_ns: When the images were taken, nanoseconds by :func:`saccade.runtime.clock.monotonic_ns`.
    """

    images: dict[str, NDArray[np.uint8]]
    proprio: NDArray[np.float32]
    captured_ns: int


class Arm(Protocol):
    """A robot. ``observe`` is called from a thread of its own and may wait for a camera; the others must not wait."""

    def observe(self) -> Frame:
        """Return the newest frame; called whenever the model is free, never by the thread of the commands."""
        ...

    def pose(self) -> NDArray[np.floating[Any]]:
        """Return the measured pose, float ``(action dim,)``, in the axes and units of an action.

        A delta holds anything; a discrete axis, such as a gripper, what it was last told.
        """
        ...

    def send(self, command: NDArray[np.float32]) -> None:
        """Send a command to the motors.

        Args:
            command: float32 ``(action dim,)``; a delta counts from the command sent before.
        """
