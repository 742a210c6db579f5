"""The noise that actions are drawn out of: the same seed, episode and control step give the same noise everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def draw_noise(seed: int, episode: int, step: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the standard normal numbers of one control step.

    Args:
        seed: Seed of the session, not negative.
        episode: How many times the session was reset before this episode.
        step: How many control steps of the episode came before this one.
        shape: Shape of what is returned, e.g. ``(chunk, noise_dim)``.

    Returns:
        float32 of that shape.
    """
    return np.random.default_rng((seed, episode, step)).standard_normal(shape, dtype=np.float32)
