"""The claim in one line: what a pruned profile keeps of the success, how fast it is, how little it looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.proto.manifest import Manifest
from saccade.proto.profile_names import FULL_PROFILE
from saccade.sim.closed_loop import Episode
from saccade.sim.evaluation import Results
from saccade.sim.paired import Estimate, resampled, success_difference
from saccade.sim.scoring import SuccessRate

REDUCED_RATIO = 0.25
_WIDE = 0.1
"""Half a difference's interval from which on a result is called one of few episodes."""


@dataclass(frozen=True)
class Claim:
    """A pruned profile against all tokens, on the same seeds; everything is over all control steps that were run.

    Args:
        profile: Name of the pruned profile.
        against: Name of the profile that it is compared with.
        success: Successes of the pruned profile.
        success_against: Successes of the other one.
        difference: Share of successes less the other's, -1 to 1.
        times_faster: The other's median latency of a control step, divided by this one's.
        visual_tokens: Mean number of visual tokens of a control step.
        all_tokens: Number of visual tokens of an observation.
    """

    profile: str
    against: str
    success: SuccessRate
    success_against: SuccessRate
    difference: Estimate
    times_faster: Estimate
    visual_tokens: Estimate
    all_tokens: int

    def sentence(self) -> str:
        """Return the claim as one line of plain text; where it does not hold, the line says so."""
        return (
            f"{self.profile} against {self.against}, {self.success.episodes} pairs of episodes: "
            f"{self._success_words()}; {self._speed_words()}; {self._token_words()}."
        )

    def to_json(self) -> dict[str, Any]:
        """Return the claim as plain JSON values."""
        return {**asdict(self), "sentence": self.sentence()}

    def _success_words(self) -> str:
        found = self.difference
        counts = f"{self.success.successes} solved instead of {self.success_against.successes}"
        points = f"{100 * found.value:+.0f} points, 95 %: {100 * found.low:+.0f} to {100 * found.high:+.0f}"
        if found.high < 0:
            return f"success is lost, {counts} ({points})"
        if found.low > 0:
            return f"success is gained, {counts} ({points})"
        few = ": few episodes" if found.high - found.low > 2 * _WIDE else ""
        return f"no difference of success shown, {counts} ({points}{few})"

    def _speed_words(self) -> str:
        found = self.times_faster
        between = f"95 %: {found.low:.2f} to {found.high:.2f}"
        if found.low > 1:
            return f"a control step is {found.value:.2f} times as fast ({between})"
        if found.high < 1:
            return f"a control step is slower, {found.value:.2f} times as fast ({between})"
        return f"a control step is no faster that could be shown, {found.value:.2f} times as fast ({between})"

    def _token_words(self) -> str:
        found = self.visual_tokens
        said = f"{found.value:.0f} of {self.all_tokens} visual tokens a step, {found.value / self.all_tokens:.0%}"
        return said if found.low == found.high else f"{said} (95 %: {found.low:.0f} to {found.high:.0f})"


def reduced_profiles(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of what a demonstration compares: ``full``, and the pruned profile nearest to a quarter.

    Args:
        manifest: Manifest of the bundle; if it has no pruned profile, ``full`` is all there is.
    """
    pruned = [profile for profile in manifest.profiles if profile.name != FULL_PROFILE]
    if not pruned:
        return (FULL_PROFILE,)
    return FULL_PROFILE, min(pruned, key=lambda profile: abs(profile.keep_ratio - REDUCED_RATIO)).name


def claim_of(results: Results, all_tokens: int) -> Claim | None:
    """Return the claim of an evaluation: its profile with the fewest visual tokens against the one with the most.

    Args:
        results: Everything that was run.
        all_tokens: Number of visual tokens of an observation.

    Returns:
        None if only one profile was run, or one of the two was never answered.
    """
    keeps = results.keeps
    ordered = sorted(results.plan.profiles, key=lambda name: keeps[name])
    profile, against = ordered[0], ordered[-1]
    ours, theirs = results.of(profile), results.of(against)
    if len(ordered) == 1 or not (_has_answers(ours) and _has_answers(theirs)):
        return None
    latencies = [[_latencies_ns(episode) for episode in side] for side in (ours, theirs)]
    tokens = [_visual_tokens(episode, keeps) for episode in ours]

    def faster(drawn: NDArray[np.int64]) -> float:
        own, other = (np.median(np.concatenate([side[index] for index in drawn])) for side in latencies)
        return float(other / own)

    def mean_tokens(drawn: NDArray[np.int64]) -> float:
        seen = np.concatenate([tokens[index] for index in drawn])
        return float(seen.mean()) if len(seen) else 0.0

    return Claim(
        profile=profile,
        against=against,
        success=_success(ours),
        success_against=_success(theirs),
        difference=success_difference(*([episode.is_success for episode in side] for side in (ours, theirs))),
        times_faster=resampled(len(ours), faster),
        visual_tokens=resampled(len(ours), mean_tokens),
        all_tokens=all_tokens,
    )


def _has_answers(episodes: Sequence[Episode]) -> bool:
    return any(not step.is_refused for episode in episodes for step in episode.control_steps)


def _success(episodes: Sequence[Episode]) -> SuccessRate:
    return SuccessRate(sum(episode.is_success for episode in episodes), len(episodes))


def _latencies_ns(episode: Episode) -> NDArray[np.int64]:
    return np.array([step.latency_ns for step in episode.control_steps], np.int64)


def _visual_tokens(episode: Episode, keeps: Mapping[str, int]) -> NDArray[np.int64]:
    return np.array([keeps[step.profile] for step in episode.control_steps if not step.is_refused], np.int64)
