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
        captured_ns: When the images were taken, nanoseconds by :func:`saccade.runtime.clock.monotonic_ns`.
        sequence: Number of the observation, strictly increasing within an episode, from 1.
        wants_telemetry: Whether the chunk shall tell what became of the visual tokens.
        noise: float32 ``(chunk, noise_dim)``, standard normal, for a bundle that draws actions out of noise; in process
            only. None = the session draws it.
        executed: How many actions of the last chunk were carried out before this observation; None = told by the time.
    """

    images: dict[str, NDArray[np.uint8]]
    proprio: NDArray[np.float32]
    captured_ns: int
    sequence: int
    wants_telemetry: bool = False
    noise: NDArray[np.float32] | None = None
    executed: int | None = None


@dataclass(frozen=True)
class Telemetry:
    """What became of the visual tokens of one control step; they are numbered (view, row, column).

    Args:
        kept: int64 ``(keep,)``: tokens that survived, ascending.
        fate: int64 ``(tokens,)``: the kept token that carries each one, itself if it was kept; -1 if it was dropped, or
            not computed again where the policy reuses an earlier step.
        encoded_ages: int64 ``(tokens,)``: control steps since the patch of each one was encoded, 0 = in this one; None
            where every step encodes every patch.
    """

    kept: NDArray[np.int64]
    fate: NDArray[np.int64]
    encoded_ages: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class ProfileChoice:
    """What a deadline chose for one control step.

    Args:
        profile: Name of the profile that it chose; warm-up, refresh and camera cut run ``full`` all the same.
        reason: Why: ``fits``, ``too slow``, ``nothing fits``, ``time to spare``, ``something new``.
        is_switch: Whether it chose another profile than for the control step before.
        predicted_ns: How long the control step was expected to take, nanoseconds.
        deadline_ns: When the chunk had to be ready, nanoseconds after the capture of its observation.
        ready_ns: When it was, nanoseconds after the capture; 0 = not yet.
    """

    profile: str
    reason: str
    is_switch: bool
    predicted_ns: int
    deadline_ns: int
    ready_ns: int = 0

    @property
    def is_missed(self) -> bool:
        """Whether the chunk was ready after its deadline."""
        return self.ready_ns > self.deadline_ns


@dataclass(frozen=True)
class ActionChunk:
    """The actions that answer one observation.

    Args:
        actions: float32 ``(chunk, dim)`` in physical units, within the limits.
        profile: Name of the profile that ran; ``full`` on warm-up and refresh steps and where motion gate or camera cut
            say so.
        clamped: How many numbers the limiter changed.
        sequence: Number of the observation that the chunk answers.
        captured_ns: Monotonic time at which that observation was captured, nanoseconds.
        timings_ns: Duration of each stage and of the parts around them, nanoseconds by name.
        far_proprio: Numbers of proprioception that were far outside the statistics, by name: wrong units, most often.
        telemetry: What became of the visual tokens; None unless the observation asked for it, and where the bundle
            tells nothing of its tokens.
        choice: What the deadline chose; None where there is none to hold.
        valid_from_ns: When the first action is for, nanoseconds on the clock of ``captured_ns``; action ``i`` is for
            ``i`` control steps later.
        expires_ns: When the last action's control step ends: nothing of the chunk is meant for later; 0 = not told.
        limited: Axes on which the chunk was moved to follow on from the commands before, by name.
    """

    actions: NDArray[np.float32]
    profile: str
    clamped: int
    sequence: int
    captured_ns: int
    timings_ns: dict[str, int] = field(default_factory=dict)
    far_proprio: tuple[str, ...] = ()
    telemetry: Telemetry | None = None
    choice: ProfileChoice | None = None
    valid_from_ns: int = 0
    expires_ns: int = 0
    limited: tuple[str, ...] = ()


class Robot(Protocol):
    """What a control loop needs: satisfied by the in-process session and by the client's."""

    def reset(self, instruction: str) -> Any:
        """Start an episode.

        Args:
            instruction: What the arm shall do.
        """

    def act(self, observation: Observation, profile: str | None = None) -> ActionChunk:
        """Run one control step.

        Args:
            observation: Images of all views, and proprioception.
            profile: Name of the profile that runs in this step; None = the robot's own.
        """
        ...
