"""Evaluation never sees a training seed."""

from __future__ import annotations

import pytest

from saccade.proto.errors import SimulatorError
from saccade.sim.seeds import FIRST_TRAINING_SEED, held_out_seeds


def test_counts_from_the_first() -> None:
    assert held_out_seeds(5, 3) == range(5, 8)
    assert held_out_seeds(FIRST_TRAINING_SEED - 1, 1)[-1] == FIRST_TRAINING_SEED - 1


@pytest.mark.parametrize(
    ("first", "episodes"), [(FIRST_TRAINING_SEED, 1), (FIRST_TRAINING_SEED - 1, 2), (-1, 1)]
)
def test_refuses_training_seeds(first: int, episodes: int) -> None:
    with pytest.raises(SimulatorError, match="held-out seeds, 0 to 999999"):
        held_out_seeds(first, episodes)


def test_refuses_no_episode() -> None:
    with pytest.raises(SimulatorError, match="at least 1 episode"):
        held_out_seeds(0, 0)
