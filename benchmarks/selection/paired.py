"""Two rows on the same seeds: by how much one succeeds more often, and whether that may be chance."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from scipy.stats import binomtest

from saccade.sim.scoring import SuccessRate


@dataclass(frozen=True)
class Paired:
    """Successes of two rows, episode by episode.

    Args:
        both: Episodes in which both succeed.
        only_first: Episodes in which only the first one does.
        only_second: Episodes in which only the second one does.
        neither: Episodes in which none does.
    """

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def episodes(self) -> int:
        """How many pairs there are."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def difference(self) -> float:
        """Success of the first one less that of the second one, -1 to 1; 0 without pairs."""
        return (self.only_first - self.only_second) / self.episodes if self.episodes else 0.0

    @property
    def p_value(self) -> float:
        """Exact two-sided p of McNemar's test: were both alike, how often they would differ at least as much.

        Source: McNemar (1947); the exact form is the binomial test of the pairs that differ.
        """
        differing = self.only_first + self.only_second
        return float(binomtest(self.only_first, differing).pvalue) if differing else 1.0

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound of the difference at 95 %, -1 to 1.

        Source: Newcombe (1998), Statistics in Medicine 17, 2635-2650, method 10: Wilson's intervals of both, squared
        and added with the correlation of the pairs.
        """
        if not self.episodes:
            return -1.0, 1.0
        first = SuccessRate(self.both + self.only_first, self.episodes)
        second = SuccessRate(self.both + self.only_second, self.episodes)
        (low1, high1), (low2, high2) = first.interval, second.interval
        phi = self._correlation(first.successes, second.successes)

        def distance(ours: float, theirs: float) -> float:
            return sqrt(max(0.0, ours**2 - 2 * phi * ours * theirs + theirs**2))

        return (
            self.difference - distance(first.rate - low1, high2 - second.rate),
            self.difference + distance(high1 - first.rate, second.rate - low2),
        )

    def _correlation(self, first: int, second: int) -> float:
        """Return phi; what is above 0 is drawn towards it by half an episode, as the method asks."""
        margins = first * second * (self.episodes - first) * (self.episodes - second)
        if margins == 0:
            return 0.0
        cross = self.both * self.neither - self.only_first * self.only_second
        if cross > 0:
            cross = max(cross - self.episodes / 2, 0)
        return float(cross / sqrt(margins))


def paired(first: str, second: str) -> Paired:
    """Return the pairs of two strings of outcomes.

    Args:
        first: Outcomes of the first one, ``1`` for a success, the n-th of the n-th seed.
        second: Outcomes of the second one on the same seeds.
    """
    pairs = list(zip(first, second, strict=True))
    both, only_first, only_second, neither = (
        pairs.count(pair) for pair in (("1", "1"), ("1", "0"), ("0", "1"), ("0", "0"))
    )
    return Paired(both, only_first, only_second, neither)
