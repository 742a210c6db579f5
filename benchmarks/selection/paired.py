"""Two rows on the same seeds: by how much one succeeds more often, and whether that may be chance."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.stats import binomtest

from saccade.sim.paired import success_difference


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
        """Lower and upper bound of the difference at 95 %, -1 to 1; :func:`saccade.sim.paired.success_difference`."""
        if not self.episodes:
            return -1.0, 1.0
        first = [True] * (self.both + self.only_first) + [False] * (self.only_second + self.neither)
        second = (
            [True] * self.both
            + [False] * self.only_first
            + [True] * self.only_second
            + [False] * self.neither
        )
        found = success_difference(first, second)
        return found.low, found.high


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
