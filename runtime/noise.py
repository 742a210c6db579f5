"""The noise that actions are drawn out of: the same seed, episode and control step give the same noise everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def draw_noise(seed: int, episode: int, step: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return standard normal numbers.

    Args:
        seed: Of the session, not negative.
        episode: How many times the session was reset before this episode.
        step: Control steps of the episode before this one.
        shape: Of the result.

    Returns:
        float32, of ``shape``.
    """
    return np.random.default_rng((seed, episode, step)).standard_normal(shape, dtype=np.float32)
