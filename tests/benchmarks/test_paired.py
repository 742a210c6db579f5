"""Pairs are compared as the sources say, and the interval covers what it says."""

from __future__ import annotations

from math import comb, factorial

import pytest

from benchmarks.selection.paired import Paired, paired


def test_outcomes_are_paired_in_order() -> None:
    assert paired("110010", "101011") == Paired(2, 1, 2, 1)
    with pytest.raises(ValueError, match="zip"):
        paired("11", "1")


@pytest.mark.parametrize(
    ("pairs", "difference", "interval"),
    [
        (Paired(36, 12, 2, 0), 0.2, (0.0569, 0.3404)),  # Newcombe (1998), table II, method 10
        (
            Paired(14, 5, 0, 22),
            0.122,
            (0.0115, 0.2265),
        ),  # Altman et al., Statistics with Confidence (2000), table 6.2
    ],
)
def test_published_examples(pairs: Paired, difference: float, interval: tuple[float, float]) -> None:
    assert pairs.difference == pytest.approx(difference, abs=5e-4)
    assert pairs.interval == pytest.approx(interval, abs=6e-5)


@pytest.mark.parametrize(("only_first", "only_second"), [(12, 2), (2, 12), (5, 5), (1, 0), (0, 8)])
def test_mcnemar_is_the_share_of_coins_that_fall_as_unevenly(only_first: int, only_second: int) -> None:
    flips = only_first + only_second
    uneven = [k for k in range(flips + 1) if abs(2 * k - flips) >= abs(only_first - only_second)]
    expected = sum(comb(flips, k) for k in uneven) / 2**flips
    assert Paired(30, only_first, only_second, 4).p_value == pytest.approx(expected)


@pytest.mark.parametrize(
    "chances", [(0.8, 0.1, 0.05, 0.05), (0.5, 0.2, 0.1, 0.2), (0.25, 0.25, 0.25, 0.25), (0.9, 0.0, 0.1, 0.0)]
)
def test_the_interval_covers_the_truth(chances: tuple[float, float, float, float]) -> None:
    """Every outcome of 16 pairs with its probability: at least 93 % lie in an interval that holds the truth."""
    pairs, covered = 16, 0.0
    for both in range(pairs + 1):
        for first in range(pairs + 1 - both):
            for second in range(pairs + 1 - both - first):
                counts = (both, first, second, pairs - both - first - second)
                weight = float(factorial(pairs))
                for count, chance in zip(counts, chances, strict=True):
                    weight *= chance**count / factorial(count)
                low, high = Paired(*counts).interval
                covered += weight * (low <= chances[1] - chances[2] <= high)
    assert 0.93 <= covered <= 1 + 1e-9


def test_nothing_is_claimed_without_pairs() -> None:
    nobody = Paired(0, 0, 0, 0)
    assert (nobody.difference, nobody.interval, nobody.p_value) == (0.0, (-1.0, 1.0), 1.0)
    alike = Paired(200, 0, 0, 0)
    assert alike.interval[0] < 0 < alike.interval[1] and alike.p_value == 1.0
