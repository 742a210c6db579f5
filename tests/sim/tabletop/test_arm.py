"""The arm keeps to its limits, and takes hold of every shape."""

from __future__ import annotations

import numpy as np

from saccade.sim.tabletop.world import World


def test_actions_beyond_the_arm_are_clipped() -> None:
    world = World()
    world.reset(np.random.default_rng(0), "reach")
    before = world.commanded()
    world.step(np.array([9, -9, 0, 1], np.float32))
    np.testing.assert_allclose(world.commanded() - before, [0.02, -0.02, 0], atol=1e-9)


def test_an_arm_without_a_new_command_comes_to_rest_where_it_was_sent() -> None:
    world = World()
    world.reset(np.random.default_rng(0), "reach")
    world.step(np.array([0.02, 0, 0, 1], np.float32))
    world.run_on(100)
    np.testing.assert_allclose(world.tcp(), world.commanded(), atol=2e-3)
    assert (world.steps, world.ticks) == (11, 110)
