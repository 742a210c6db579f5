"""Conformance suite of environments: subclass :class:`EnvironmentContract` and every rule is tested.

What the closed loop and gymnasium rely on, whatever the world behind it is.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

STEPS = 12


class EnvironmentContract(ABC):
    """An environment with ``images``, ``proprio`` and ``instruction`` in its observations."""

    @abstractmethod
    def make_environment(self) -> gymnasium.Env[Any, Any]:
        """Return a new environment."""

    @pytest.fixture
    def env(self) -> Iterator[gymnasium.Env[Any, Any]]:
        env = self.make_environment()
        yield env
        env.close()

    def test_passes_gymnasiums_own_check(self, env: gymnasium.Env[Any, Any]) -> None:
        with warnings.catch_warnings():
            # Advice for reinforcement learning (normalised actions, float images), not rules of the interface.
            warnings.simplefilter("ignore", UserWarning)
            check_env(env, skip_render_check=True)

    def test_observations_lie_in_their_space(self, env: gymnasium.Env[Any, Any]) -> None:
        observation, _ = env.reset(seed=1)
        assert env.observation_space.contains(observation)
        for action in actions(env, STEPS):
            observation, *_ = env.step(action)
            assert env.observation_space.contains(observation)

    def test_an_observation_has_frames_state_and_words(self, env: gymnasium.Env[Any, Any]) -> None:
        observation, _ = env.reset(seed=1)
        assert set(observation) == {"images", "proprio", "instruction"}
        assert all(
            frame.dtype == np.uint8 and frame.shape[2] == 3 for frame in observation["images"].values()
        )
        assert observation["proprio"].dtype == np.float32 and np.isfinite(observation["proprio"]).all()
        assert observation["instruction"].strip()

    def test_the_same_seed_is_the_same_episode(self, env: gymnasium.Env[Any, Any]) -> None:
        other = self.make_environment()
        try:
            first, second = rollout(env, seed=3), rollout(other, seed=3)
        finally:
            other.close()
        for one, another in zip(first, second, strict=True):
            assert_same(one, another)

    def test_an_episode_leaves_no_trace_in_the_next(self, env: gymnasium.Env[Any, Any]) -> None:
        first = rollout(env, seed=5)
        rollout(env, seed=6)
        for one, another in zip(first, rollout(env, seed=5), strict=True):
            assert_same(one, another)

    def test_another_seed_is_another_episode(self, env: gymnasium.Env[Any, Any]) -> None:
        first, _ = env.reset(seed=1)
        second, _ = env.reset(seed=2)
        assert any((first["images"][view] != second["images"][view]).any() for view in first["images"])

    def test_frames_belong_to_the_caller(self, env: gymnasium.Env[Any, Any]) -> None:
        observation, _ = env.reset(seed=1)
        kept = {view: frame.copy() for view, frame in observation["images"].items()}
        for action in actions(env, STEPS):
            env.step(action)
        for view, frame in observation["images"].items():
            np.testing.assert_array_equal(frame, kept[view])

    def test_doing_nothing_is_no_success(self, env: gymnasium.Env[Any, Any]) -> None:
        for seed in range(3):
            env.reset(seed=seed)
            terminated = truncated = False
            while not (terminated or truncated):
                still = np.zeros(env.action_space.shape or (), np.float32)
                _, reward, terminated, truncated, _ = env.step(still)
                assert reward == 0
            assert truncated and not terminated


def actions(env: gymnasium.Env[Any, Any], count: int) -> Iterator[Any]:
    """Return seeded random actions."""
    env.action_space.seed(0)
    return (env.action_space.sample() for _ in range(count))


def rollout(env: gymnasium.Env[Any, Any], *, seed: int) -> list[dict[str, Any]]:
    """Return the observations of a short seeded episode of random actions."""
    observations = [env.reset(seed=seed)[0]]
    return observations + [env.step(action)[0] for action in actions(env, STEPS)]


def assert_same(one: dict[str, Any], another: dict[str, Any]) -> None:
    """Assert that two observations are equal to the bit."""
    assert one["instruction"] == another["instruction"]
    np.testing.assert_array_equal(one["proprio"], another["proprio"])
    for view, frame in one["images"].items():
        np.testing.assert_array_equal(frame, another["images"][view])
