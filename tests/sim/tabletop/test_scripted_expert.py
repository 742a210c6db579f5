"""The experts do what they are told; exact, because the physics is pinned and seeded."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.sim.scripted_success import scripted_success_rate
from saccade.sim.tabletop.env import TabletopEnv
from saccade.sim.tabletop.tables import BUNDLED
from saccade.sim.tabletop.world import World


@pytest.mark.parametrize("template", BUNDLED.templates)
def test_the_expert_solves_nearly_every_seed(template: str) -> None:
    rate = scripted_success_rate(template, range(20))
    assert (rate.successes, rate.episodes) == (20, 20)


def test_a_world_and_an_environment_of_one_seed_are_the_same() -> None:
    """What lets an expert's rate, found without rendering, stand beside a model's."""
    world = World()
    world.reset(np.random.default_rng(21), "push")
    env = TabletopEnv("push", image_px=16)
    env.reset(seed=21)
    env.close()
    assert world.task == env.world.task
    np.testing.assert_array_equal(world.data.qpos, env.world.data.qpos)
