"""The noise that actions are drawn out of: repeatable, and another in every control step."""

from __future__ import annotations

import numpy as np

from saccade.runtime.noise import draw_noise


def test_the_same_seed_episode_and_step_give_the_same_noise() -> None:
    noise = draw_noise(7, 1, 2, (50, 32))
    assert noise.dtype == np.float32 and noise.shape == (50, 32)
    np.testing.assert_array_equal(noise, draw_noise(7, 1, 2, (50, 32)))
    for other in ((8, 1, 2), (7, 2, 1), (7, 0, 2), (7, 1, 3)):
        assert np.abs(noise - draw_noise(*other, (50, 32))).max() > 1


def test_it_is_standard_normal() -> None:
    drawn = np.concatenate([draw_noise(0, 0, step, (50, 32)).ravel() for step in range(20)])
    assert abs(drawn.mean()) < 0.02 and abs(drawn.std() - 1) < 0.02
