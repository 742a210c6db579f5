"""Light comes and goes with the time of the episode, so that a moment that is come back to looks the same."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.sim.tabletop.lighting import STEADY, Lighting
from saccade.sim.tabletop.scripted_expert import scripted_action
from saccade.sim.tabletop.world import World


def test_a_steady_lamp_is_steady() -> None:
    assert [STEADY.brightness(time_s) for time_s in (0.0, 0.3, 7.0)] == [1.0] * 3


def test_a_wave_goes_from_bright_to_dark_and_back() -> None:
    lamp = Lighting(depth=0.3, period_s=4.0)
    found = [lamp.brightness(time_s) for time_s in (0.0, 1.0, 2.0, 4.0)]
    assert found == pytest.approx([1.0, 0.85, 0.7, 1.0])
    assert Lighting(0.3, 4.0, phase=0.5).brightness(0.0) == pytest.approx(0.7)


def test_the_light_of_a_moment_comes_back_with_it() -> None:
    world = World()
    world.reset(np.random.default_rng(1), "place")
    moment, before = world.snapshot(), world.model.light_diffuse.copy()
    for _ in range(12):
        world.step(scripted_action(world))
    assert np.abs(world.model.light_diffuse - before).max() > 1e-4
    world.restore(moment)
    np.testing.assert_array_equal(world.model.light_diffuse, before)
