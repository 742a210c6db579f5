"""Ground, light and belt change from episode to episode; what was painted before is forgotten."""

from __future__ import annotations

import numpy as np

from saccade.sim.tabletop.cameras import Cameras
from saccade.sim.tabletop.world import World


def test_the_ground_is_textured_and_changes() -> None:
    world = World()
    grounds = set()
    with Cameras(world, 48) as cameras:
        for seed in range(6):
            world.reset(np.random.default_rng(seed))
            grounds.add(int(world.model.geom("table").matid[0]))
            is_ground = cameras.render_slots("scene") == 0
            assert cameras.render("scene")[is_ground].std() > 4, "not one flat colour"
        last = cameras.render("scene")
        world.reset(np.random.default_rng(0))
        world.reset(np.random.default_rng(5))
        np.testing.assert_array_equal(cameras.render("scene"), last)
    assert len(grounds) > 2


def test_the_way_of_the_belt_shows() -> None:
    world = World()
    shown = {}
    for seed in range(12):
        world.reset(np.random.default_rng(seed))
        shown.setdefault(np.sign(world.layout.belt_mps), set()).add(int(world.model.geom("belt").matid[0]))
    (one,), (other,) = shown.values()
    assert one != other
