"""Which episodes are for training and which are held out: a boundary in the space of seeds."""

from __future__ import annotations

from saccade.proto.errors import SimulatorError

FIRST_TRAINING_SEED = 1_000_000
"""Seeds below are held out: evaluation never sees a training seed."""


def held_out_seeds(first: int, episodes: int) -> range:
    """Return the seeds of an evaluation.

    Args:
        first: Seed of the first episode.
        episodes: How many.

    Raises:
        SimulatorError: No episode, or a seed that training may have seen.
    """
    if episodes < 1:
        raise SimulatorError(f"expected at least 1 episode, found {episodes}.")
    if first < 0 or first + episodes > FIRST_TRAINING_SEED:
        raise SimulatorError(
            f"expected held-out seeds, 0 to {FIRST_TRAINING_SEED - 1}, found {first} to {first + episodes - 1}: "
            f"training starts at {FIRST_TRAINING_SEED}; choose a smaller first seed."
        )
    return range(first, first + episodes)
