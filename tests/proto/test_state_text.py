"""A state as text: the formula, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.proto.errors import ProprioError
from saccade.proto.state_text import state_bins, state_text

BINS = 256


def test_the_state_is_told_in_words() -> None:
    state = np.array([-1.0, -0.996, -0.99, 0.0, 0.5, 0.9999, 1.0], dtype=np.float32)
    assert state_bins(state, BINS) == (0, 0, 1, 128, 192, 255, 255)
    assert state_text(state[[0, 3]], BINS) == "0 128"


def test_bins_are_those_of_the_formula_and_values_outside_fall_off_the_ends() -> None:
    """Bin of s is the number of edges -1, -1 + 1/128, ... that are not above it, minus one."""
    drawn = np.random.default_rng(0).uniform(-1.5, 1.5, 500)
    expected = [sum(-1 + edge / 128 <= value for edge in range(256)) - 1 for value in drawn]
    assert list(state_bins(drawn, BINS)) == expected
    assert state_bins(np.array([-1.001, 7.0]), BINS) == (-1, 255)


@pytest.mark.parametrize("state", [np.array([0.0, np.nan]), np.array([np.inf]), np.zeros((2, 3))])
def test_a_state_that_is_no_row_of_numbers_is_refused(state: np.ndarray) -> None:
    with pytest.raises(ProprioError, match="expected a state of one row of finite numbers"):
        state_bins(state, BINS)
