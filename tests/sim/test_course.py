from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from saccade.proto.errors import ActionRefusedError
from saccade.runtime.observation import ActionChunk, Observation
from saccade.sim.course import Course, ask
from saccade.sim.tabletop.env import TabletopEnv
from saccade.sim.tabletop.world import HORIZON, SUBSTEPS


@pytest.fixture
def env() -> Iterator[TabletopEnv]:
    env = TabletopEnv("reach", image_px=16)
    env.reset(seed=0)
    yield env
    env.close()


def test_time_passes_to_the_horizon_and_no_further(env: TabletopEnv) -> None:
    course = Course(env.world, env.world.task)
    course.run_on(3)
    assert env.world.ticks == 3 and course.goes_on()
    course.execute(np.zeros((2, 4), np.float32))
    assert env.world.ticks == 3 + 2 * SUBSTEPS
    course.run_on(10**6)
    assert not course.goes_on() and env.world.steps == HORIZON
    course.execute(np.zeros((1, 4), np.float32))
    assert env.world.steps == HORIZON and not course.is_told_done


class Robot:
    def __init__(self, *, refuses: bool) -> None:
        self._refuses = refuses

    def reset(self, told: str) -> None:
        """Nothing to remember."""

    def act(self, observation: Observation, profile: str | None = None) -> ActionChunk:
        if self._refuses:
            raise ActionRefusedError("far out")
        return ActionChunk(np.zeros((1, 4), np.float32), profile or "", 2, observation.sequence, 0)


def test_a_refusal_is_a_step_without_a_chunk() -> None:
    seen = Observation({}, np.zeros(4, np.float32), 0, 1)
    step, chunk = ask(Robot(refuses=False), seen, "keep25")
    assert chunk is not None and (step.profile, step.clamped, step.is_refused) == ("keep25", 2, False)
    step, chunk = ask(Robot(refuses=True), seen, "keep25")
    assert chunk is None and (step.profile, step.is_refused) == ("", True)
