"""What goes into a control step and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Observation:
    """One timed image per view, and proprioception.

    Args:
        images: View name to uint8 RGB ``(height, width, 3)``.
        proprio: float32 ``(dim,)`` in the physical units that the manifest names.
        captured_ns: Monotonic time at which the images were taken.
        sequence: Strictly increasing within an episode, from 1.
    """

    images: dict[str, NDArray[np.uint8]]
    proprio: NDArray[np.float32]
    captured_ns: int
    sequence: int


@dataclass(frozen=True)
class ActionChunk:
    """The answer to one observation.

    Args:
        actions: float32 ``(chunk, dim)`` in physical units, within the limits.
        profile: What ran; ``full`` on warm-up and refresh steps.
        kept: int64 ``(keep,)`` visual tokens that survived, ascending; empty if the bundle tells none.
        clamped: Numbers that the limiter changed.
        timings_ns: Duration of each stage and of the parts around them.
        sequence: Of the observation it answers.
        captured_ns: Capture time of that observation.
    """

    actions: NDArray[np.float32]
    profile: str
    kept: NDArray[np.int64]
    clamped: int
    sequence: int
    captured_ns: int
    timings_ns: dict[str, int] = field(default_factory=dict)


class Robot(Protocol):
    """What a control loop needs: satisfied by the in-process session and by the client's."""

    def reset(self, instruction: str) -> Any:
        """Start an episode."""

    def act(self, observation: Observation, profile: str | None = None) -> ActionChunk:
        """Run one control step."""
        ...
