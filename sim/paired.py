"""One profile against another on the same seeds: intervals at 95 % that know what belongs together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from saccade.sim.scoring import SuccessRate

RESAMPLES = 2000
_SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A number with its interval at 95 %.

    Args:
        value: The number.
        low: Lower bound of the interval.
        high: Upper bound of the interval.
    """

    value: float
    low: float
    high: float


def success_difference(ours: Sequence[bool], theirs: Sequence[bool]) -> Estimate:
    """Return by how much our share of successes exceeds theirs, -1 to 1, with Newcombe's paired score interval.

    Source: Newcombe (1998), Statistics in Medicine 17, 2635-2650, method 10.

    Args:
        ours: Whether each of our episodes succeeded.
        theirs: Whether each of theirs did, in the same order of the same worlds; at least one episode.
    """
    pairs = list(zip(ours, theirs, strict=True))
    both, only_ours, only_theirs, neither = (
        pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))
    )
    count = len(pairs)
    one, other = SuccessRate(both + only_ours, count), SuccessRate(both + only_theirs, count)
    spread = (both + only_ours) * (only_theirs + neither) * (both + only_theirs) * (only_ours + neither)
    product = float(both * neither - only_ours * only_theirs)
    if product > 0:
        product = max(product - count / 2, 0.0)  # a correction for continuity
    phi = product / sqrt(spread) if spread else 0.0
    down, up = one.rate - one.interval[0], one.interval[1] - one.rate
    their_down, their_up = other.rate - other.interval[0], other.interval[1] - other.rate
    difference = one.rate - other.rate
    return Estimate(
        difference,
        difference - sqrt(max(0.0, down**2 - 2 * phi * down * their_up + their_up**2)),
        difference + sqrt(max(0.0, up**2 - 2 * phi * up * their_down + their_down**2)),
    )


def resampled(
    count: int, statistic: Callable[[NDArray[np.int64]], float], *, resamples: int = RESAMPLES
) -> Estimate:
    """Return a statistic of episodes with its percentile bootstrap interval; whole episodes are drawn.

    Args:
        count: Number of episodes, at least one.
        statistic: Takes indices of episodes, int64 ``(count,)``, any of them several times.
        resamples: How often episodes are drawn; the draws are the same every time.
    """
    rng = np.random.default_rng(_SEED)
    drawn = [statistic(rng.integers(count, size=count)) for _ in range(resamples)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(statistic(np.arange(count)), float(low), float(high))
