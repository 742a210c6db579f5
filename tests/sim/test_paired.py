"""Paired intervals against published values, and against what resampling must give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.sim.paired import resampled, success_difference


@pytest.mark.parametrize(
    ("both", "only_ours", "only_theirs", "neither", "difference", "low", "high"),
    [  # Newcombe (1998), Statistics in Medicine 17, table II, method 10
        (36, 12, 2, 0, 0.2, 0.0569, 0.3404),
        (36, 14, 0, 0, 0.28, 0.1528, 0.4167),
        (54, 0, 0, 0, 0.0, -0.0664, 0.0664),
    ],
)
def test_newcombe(both, only_ours, only_theirs, neither, difference, low, high):
    ours = [True] * (both + only_ours) + [False] * (only_theirs + neither)
    theirs = [True] * both + [False] * only_ours + [True] * only_theirs + [False] * neither
    found = success_difference(ours, theirs)
    assert (found.value, found.low, found.high) == pytest.approx((difference, low, high), abs=6e-5)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_the_interval_holds_the_difference_and_turns_round_with_it(pairs):
    ours, theirs = zip(*pairs, strict=True)
    one, other = success_difference(ours, theirs), success_difference(theirs, ours)
    assert one.value == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert one.low <= one.value <= one.high
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))


def test_the_bootstrap_interval_of_a_mean_is_that_of_the_normal_law():
    values = np.random.default_rng(1).normal(10, 2, 400)
    found = resampled(len(values), lambda drawn: float(values[drawn].mean()))
    half = 1.96 * values.std() / 20
    assert found.value == values.mean()
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.1 * half)
    assert found == resampled(len(values), lambda drawn: float(values[drawn].mean())), "the same every time"
