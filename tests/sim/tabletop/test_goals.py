"""A goal holds when its own task is done and nothing else was touched."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.sim.tabletop.scripted_expert import scripted_action
from saccade.sim.tabletop.tasks import INTERCEPT, Task, feasible_tasks
from saccade.sim.tabletop.world import World


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def play(world: World, task: Task) -> None:
    while not world.is_over():
        world.step(scripted_action(world, task))


def test_what_rides_by_untouched_breaks_no_goal(world: World) -> None:
    world.reset(np.random.default_rng(0), "reach")
    play(world, world.task)
    assert world.succeeded
    for index in world.layout.riders:
        moved = world.thing(index)[:2] - world.layout.thing_xy[index]
        assert abs(moved[1]) > 0.05, "it rode on"
        np.testing.assert_allclose(world.thing(index)[:2], world.undisturbed(index), atol=0.005)


def test_the_other_rider_is_not_the_one(world: World) -> None:
    for seed in range(3):
        world.reset(np.random.default_rng(seed), INTERCEPT)
        (other,) = [task for task in feasible_tasks(world.layout, INTERCEPT) if task != world.task]
        play(world, other)
        assert not world.succeeded


def test_to_touch_what_rides_by_is_not_to_pick_it(world: World) -> None:
    world.reset(np.random.default_rng(1), INTERCEPT)
    play(world, Task("reach", world.task.thing))
    assert not world.succeeded
