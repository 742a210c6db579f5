"""The belt carries what lies on it, and nothing that happens on the table slows it."""

from __future__ import annotations

import numpy as np

from saccade.sim.tabletop.scripted_expert import scripted_action
from saccade.sim.tabletop.world import World


def test_the_belt_runs_on_while_things_are_taken_from_it() -> None:
    world = World()
    world.reset(np.random.default_rng(0), "intercept")
    speed = world.layout.belt_mps
    while not world.is_over():
        world.step(scripted_action(world))
    assert world.succeeded
    np.testing.assert_allclose(world.data.joint("belt").qvel, speed, rtol=1e-3)
