"""The tabletop is a gymnasium environment in which only the instruction says what is right."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from saccade.proto.errors import UnknownTaskError
from saccade.sim.tabletop.env import TabletopEnv
from saccade.sim.tabletop.scripted_expert import scripted_action
from saccade.sim.tabletop.tables import BUNDLED
from saccade.sim.tabletop.tasks import feasible_tasks, instruction
from saccade.sim.tabletop.world import HOLD_STEPS, HORIZON, World
from tests.contracts.environment import EnvironmentContract


class TestAnyTask(EnvironmentContract):
    def make_environment(self) -> TabletopEnv:
        return TabletopEnv()


class TestOneTask(EnvironmentContract):
    def make_environment(self) -> TabletopEnv:
        return TabletopEnv("stack", image_px=48)


@pytest.fixture
def env() -> Iterator[TabletopEnv]:
    env = TabletopEnv("place")
    yield env
    env.close()


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(UnknownTaskError, match=r"reach, push, place, stack, intercept.*'juggle'"):
        TabletopEnv("juggle")


def test_success_ends_the_episode_with_a_reward(env: TabletopEnv) -> None:
    env.reset(seed=0)
    terminated, reward = False, 0.0
    while not terminated:
        _, reward, terminated, truncated, info = env.step(scripted_action(env.world))
        assert not truncated
    assert reward == 1 and info["success"] and HOLD_STEPS < info["steps"] < HORIZON


def test_advancing_is_stepping_without_eyes(env: TabletopEnv) -> None:
    env.reset(seed=4)
    goes_on, length = True, 0
    while goes_on:
        goes_on = env.advance(scripted_action(env.world))
        length += 1
    assert env.world.succeeded and length == env.world.steps
    seen = env.observe()
    env.reset(seed=4)
    for _ in range(length):
        stepped, *_ = env.step(scripted_action(env.world))
    np.testing.assert_array_equal(seen["images"]["wrist"], stepped["images"]["wrist"])


def test_one_first_observation_allows_every_instruction() -> None:
    """The same seed shows the same scene whatever the template: pixels alone never reveal the task."""
    first = {}
    for template in BUNDLED.templates:
        env = TabletopEnv(template)
        first[template], _ = env.reset(seed=7)
        env.close()
    assert len({observation["instruction"] for observation in first.values()}) == len(BUNDLED.templates)
    for observation in first.values():
        np.testing.assert_array_equal(observation["proprio"], first["reach"]["proprio"])
        for view in ("scene", "wrist"):
            np.testing.assert_array_equal(observation["images"][view], first["reach"]["images"][view])


def test_a_scene_allows_many_tasks(env: TabletopEnv) -> None:
    for seed in range(10):
        env.reset(seed=seed)
        layout = env.world.layout
        worded = [
            instruction(task, layout) for name in BUNDLED.templates for task in feasible_tasks(layout, name)
        ]
        assert len(set(worded)) == len(worded) >= 12


@pytest.mark.parametrize("verb", ["push", "place", "stack"])
def test_no_other_verb_touches(verb: str) -> None:
    """An arm that grasps or pushes the right block has not touched it: the verb decides too."""
    world = World()
    for seed in range(10):
        world.reset(np.random.default_rng(seed), "reach")
        others = [task for task in feasible_tasks(world.layout, verb) if task.thing == world.task.thing]
        while others and not world.is_over():
            world.step(scripted_action(world, others[0]))
        assert not world.succeeded


def test_the_expert_of_another_instruction_does_not_succeed(env: TabletopEnv) -> None:
    """The control behind every success rate: doing something else well is a failure."""
    for seed in range(4):
        env.reset(seed=seed)
        task = env.world.task
        (wrong, *_) = [
            other for other in feasible_tasks(env.world.layout, "place") if other.thing != task.thing
        ]
        while env.advance(scripted_action(env.world, wrong)):
            pass
        assert not env.world.succeeded and env.world.out_of_time
