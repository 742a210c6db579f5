"""Which episodes are for training, which for trying things out, which are held out: ranges of seeds.

0 to 499,999         held out: what is reported
500,000 to 999,999   development: looked at while a model is made, never reported
1,000,000 and up     training
"""

from __future__ import annotations

from saccade.proto.errors import SimulatorError

FIRST_TRAINING_SEED = 1_000_000
"""First seed of training; an evaluation never sees it or a later one."""

FIRST_DEVELOPMENT_SEED = 500_000
"""First seed for checks of a model in the making, and for a look at why it fails."""


def held_out_seeds(first: int, episodes: int) -> range:
    """Return the seeds of an evaluation.

    Args:
        first: Seed of the first episode.
        episodes: How many episodes there are, one seed each.

    Raises:
        SimulatorError: There is no episode, or a seed that training may have seen.
    """
    if episodes < 1:
        raise SimulatorError(f"expected at least 1 episode, found {episodes}.")
    if first < 0 or first + episodes > FIRST_TRAINING_SEED:
        raise SimulatorError(
            f"expected held-out seeds, 0 to {FIRST_TRAINING_SEED - 1}, found {first} to {first + episodes - 1}: "
            f"training starts at {FIRST_TRAINING_SEED}; choose a smaller first seed."
        )
    return range(first, first + episodes)
