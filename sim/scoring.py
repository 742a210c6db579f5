"""From episodes to figures: success with its interval, latency quantiles, visual tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from saccade.sim.closed_loop import Episode
from saccade.sim.course import ControlStep

Z_95 = 1.959963984540054
"""Standard normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True)
class SuccessRate:
    """Successes among episodes, with the Wilson score interval at 95 %.

    Source: Wilson (1927), as in Brown, Cai and DasGupta (2001), eq. 4.

    Args:
        successes: How many episodes succeeded.
        episodes: How many episodes there were.
    """

    successes: int
    episodes: int

    @property
    def rate(self) -> float:
        """Share of episodes that succeeded, 0 to 1; 0 if there are none."""
        return self.successes / self.episodes if self.episodes else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound of the rate, 0 to 1; all of it if there are no episodes."""
        count = self.episodes
        if count == 0:
            return 0.0, 1.0
        spread = Z_95 * sqrt(self.rate * (1 - self.rate) / count + (Z_95 / count) ** 2 / 4)
        centre, scale = self.rate + Z_95**2 / (2 * count), 1 + Z_95**2 / count
        low, high = (centre - spread) / scale, (centre + spread) / scale
        return max(0.0, min(low, self.rate)), min(1.0, max(high, self.rate))  # a rounding apart at 0 and 1


@dataclass(frozen=True)
class Score:
    """One row of a results table.

    Args:
        template: Task template, or what the rows were pooled into.
        profile: Name of the profile that was asked for.
        success: Successes among the episodes.
        told: How often what the model was told was done; equal to success unless it was told another task.
        p50_ns: Median latency over *all* control steps, warm-up and refresh included, nanoseconds.
        p99_ns: 99th percentile of the latency over all control steps, nanoseconds.
        visual_tokens: Mean number of visual tokens over all control steps that were answered.
        control_steps: How often ``act`` was called.
        full_steps: How many control steps ran ``full`` although less was asked for.
        clamped: How many numbers the limiter changed.
        refused: How many chunks the limiter refused.
        late: How many chunks were dropped because they came later than they last; only in live time.
    """

    template: str
    profile: str
    success: SuccessRate
    told: SuccessRate
    p50_ns: int
    p99_ns: int
    visual_tokens: float
    control_steps: int
    full_steps: int
    clamped: int
    refused: int
    late: int


def score(template: str, profile: str, episodes: Sequence[Episode], keeps: Mapping[str, int]) -> Score:
    """Summarise episodes that asked for one profile.

    Args:
        template: Task template, or what the episodes were pooled from.
        profile: Name of the profile that was asked for.
        episodes: Episodes to summarise.
        keeps: How many visual tokens survive in each profile of the bundle.
    """
    steps = [step for episode in episodes for step in episode.control_steps]
    answered = [step for step in steps if not step.is_refused]
    p50_ns, p99_ns = (quantile_ns(step_latencies_ns(episodes), fraction) for fraction in (0.50, 0.99))
    return Score(
        template=template,
        profile=profile,
        success=SuccessRate(sum(episode.is_success for episode in episodes), len(episodes)),
        told=SuccessRate(sum(episode.is_told_done for episode in episodes), len(episodes)),
        p50_ns=p50_ns,
        p99_ns=p99_ns,
        visual_tokens=float(np.mean([keeps[step.profile] for step in answered])) if answered else 0.0,
        control_steps=len(steps),
        full_steps=sum(_is_promoted(step, profile) for step in answered),
        clamped=sum(step.clamped for step in steps),
        refused=len(steps) - len(answered),
        late=sum(step.is_late for step in steps),
    )


def step_latencies_ns(episodes: Iterable[Episode]) -> list[int]:
    """Return the latency of every control step, whichever profile it ran, nanoseconds."""
    return [step.latency_ns for episode in episodes for step in episode.control_steps]


def quantile_ns(latencies_ns: Sequence[int], fraction: float) -> int:
    """Return the smallest latency that ``fraction`` of them do not exceed; 0 of none.

    Args:
        latencies_ns: Latencies, nanoseconds, in any order.
        fraction: Which quantile, in 0..1.
    """
    if not latencies_ns:
        return 0
    return int(np.quantile(np.asarray(latencies_ns), fraction, method="inverted_cdf"))


def _is_promoted(step: ControlStep, profile: str) -> bool:
    return step.profile != profile
