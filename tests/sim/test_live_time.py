"""The world runs on while the model thinks, and what comes too late is not used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from saccade.proto.errors import SimulatorError
from saccade.runtime.observation import ActionChunk, Observation
from saccade.sim.closed_loop import Episode, run_episode
from saccade.sim.live_time import LiveTime, TickCount, is_late
from saccade.sim.tabletop.env import TabletopEnv
from saccade.sim.tabletop.scripted_expert import scripted_action

CHUNK = ActionChunk(np.zeros((8, 4), np.float32), "full", 0, 1, 0)
"""Lasts 400 ms at 20 Hz."""


class ExpertRobot:
    """Does what the expert would do if the world waited."""

    def __init__(self, env: TabletopEnv) -> None:
        self._world = env.world

    def reset(self, told: str) -> None:
        """Nothing to remember."""

    def act(self, observation: Observation, profile: str | None = None) -> ActionChunk:
        now, actions = self._world.snapshot(), []
        for _ in range(len(CHUNK.actions)):
            actions.append(scripted_action(self._world))
            self._world.step(actions[-1])
        self._world.restore(now)
        return replace(CHUNK, actions=np.array(actions), sequence=observation.sequence)


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    env = TabletopEnv("intercept", image_px=16)
    yield env
    env.close()


def play(env: TabletopEnv, latency_ms: float | None, seed: int = 0) -> Episode:
    live = None if latency_ms is None else LiveTime(latency_ms)
    return run_episode(env, ExpertRobot(env), seed=seed, profile="full", live=live)


def test_a_latency_of_nothing_is_a_world_that_waits(env: TabletopEnv) -> None:
    waits, live = play(env, None), play(env, 0)
    assert waits.is_success and (waits.env_steps, waits.is_success) == (live.env_steps, live.is_success)


def test_a_fixed_latency_costs_simulated_time_and_goes_the_same_way_again(env: TabletopEnv) -> None:
    slow, again = play(env, 110), play(env, 110)
    assert slow.is_success and slow.env_steps > play(env, 0).env_steps
    assert (slow.env_steps, len(slow.control_steps)) == (again.env_steps, len(again.control_steps))


def test_what_rides_by_is_gone_for_who_thinks_too_long(env: TabletopEnv) -> None:
    solved = {ms: sum(play(env, ms, seed).is_success for seed in range(6)) for ms in (0, 400)}
    assert solved[0] == 6 and solved[400] <= 2


def test_chunks_older_than_they_last_are_never_used(env: TabletopEnv) -> None:
    before = env.reset(seed=0)[0]["proprio"]
    episode = play(env, 405)
    assert all(step.is_late for step in episode.control_steps) and not episode.is_success
    np.testing.assert_allclose(env.world.proprio()[:3], before[:3], atol=3e-3)


def test_late_is_what_the_client_says_is_late() -> None:
    assert not is_late(CHUNK, 400_000_000)
    assert is_late(CHUNK, 400_000_001)


def test_measured_latency_is_what_was_measured() -> None:
    assert LiveTime().latency_ns(123) == 123
    assert LiveTime(25.5).latency_ns(123) == 25_500_000


def test_no_time_is_lost_by_rounding() -> None:
    count = TickCount()
    assert [count.ticks(7_000_000) for _ in range(5)] == [1, 1, 2, 1, 2]


@pytest.mark.parametrize("latency_ms", [-1.0, float("nan"), float("inf")])
def test_a_latency_that_cannot_be_is_refused(latency_ms: float) -> None:
    with pytest.raises(SimulatorError, match="0 ms or more"):
        LiveTime(latency_ms)
