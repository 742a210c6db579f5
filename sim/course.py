"""An episode under way: lets time pass and says whether it goes on; and one question to the model."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import ActionRefusedError
from saccade.runtime.observation import ActionChunk, Observation, Robot
from saccade.sim.tabletop.tasks import Task
from saccade.sim.tabletop.world import HOLD_STEPS, SUBSTEPS, World


@dataclass(frozen=True)
class ControlStep:
    """What one call of ``act`` cost and gave.

    Args:
        latency_ns: How long ``act`` alone took for its caller, nanoseconds.
        profile: Name of the profile that ran; ``full`` where the policy's rules ask for it, empty if the chunk was
            refused.
        clamped: How many numbers the limiter changed.
        is_refused: Whether the limiter refused the chunk, and the arm was held.
        timings_ns: Durations that the session reports, nanoseconds by part.
        is_late: Whether the chunk was dropped because it came later than it lasts; only in live time.
    """

    latency_ns: int
    profile: str
    clamped: int
    is_refused: bool
    timings_ns: dict[str, int]
    is_late: bool = False


class Course:
    """An episode under way.

    Args:
        world: The table, reset.
        told: What the model was told to do.
    """

    def __init__(self, world: World, told: Task) -> None:
        self._world, self._told = world, told
        self._told_ticks = 0

    @property
    def is_told_done(self) -> bool:
        """Whether what the model was told is done and has stayed so."""
        return self._told_ticks >= HOLD_STEPS * SUBSTEPS

    def goes_on(self) -> bool:
        """Whether neither the task nor what was told is done, and there is time left."""
        return not (self._world.is_over() or self.is_told_done)

    def run_on(self, ticks: int) -> None:
        """Let time pass while the arm's last command stands, as long as the episode goes on.

        Args:
            ticks: How many physics steps pass.
        """
        while ticks > 0 and self.goes_on():
            passed = min(ticks, SUBSTEPS)
            self._world.run_on(passed)
            self._look(passed)
            ticks -= passed

    def execute(self, actions: NDArray[np.float32]) -> None:
        """Execute actions, a control step each, as long as the episode goes on.

        Args:
            actions: float32 ``(count, 4)``.
        """
        for action in actions:
            if not self.goes_on():
                return
            self._world.step(action)
            self._look(SUBSTEPS)

    def _look(self, passed: int) -> None:
        self._told_ticks = self._told_ticks + passed if self._world.goal_holds(self._told) else 0


def ask(robot: Robot, observation: Observation, profile: str) -> tuple[ControlStep, ActionChunk | None]:
    """Ask for a chunk, and return what that cost and the chunk, None if it was refused.

    Args:
        robot: The in-process session or the client's.
        observation: What the robot senses.
        profile: Name of the profile that is asked for.

    Raises:
        SaccadeError: Whatever the robot raises, except a refused chunk.
    """
    started = time.monotonic_ns()
    try:
        chunk = robot.act(observation, profile)
    except ActionRefusedError:
        latency_ns = time.monotonic_ns() - started
        return ControlStep(latency_ns, "", 0, True, {}), None
    latency_ns = time.monotonic_ns() - started
    step = ControlStep(latency_ns, chunk.profile, chunk.clamped, False, chunk.timings_ns)
    return step, chunk
