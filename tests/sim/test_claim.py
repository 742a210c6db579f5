"""The claim in one line says what came out, also where it is not what one hoped for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from saccade.sim.claim import Claim, claim_of, reduced_profiles
from saccade.sim.closed_loop import Episode
from saccade.sim.connection import Connection
from saccade.sim.course import ControlStep
from saccade.sim.evaluation import EvaluationPlan, Results
from saccade.sim.paired import Estimate

KEEPS = {"full": 200, "keep50": 100, "keep25": 50}


def episode(
    profile: str, seed: int, is_success: bool, latencies_ms: list[float], warm_up: int = 0
) -> Episode:
    steps = tuple(
        ControlStep(round(latency * 1e6), "full" if index < warm_up else profile, 0, False, {})
        for index, latency in enumerate(latencies_ms)
    )
    return Episode("reach", seed, profile, "touch it", is_success, is_success, 9, steps)


def claim(ours: list[bool], theirs: list[bool], ours_ms: float, theirs_ms: float, warm_up: int = 0) -> Claim:
    """Every episode has ten steps within a tenth of the given latency."""
    spread = np.linspace(0.9, 1.1, 10)
    episodes = []
    for seed, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        episodes.append(episode("full", seed, other, list(theirs_ms * spread)))
        episodes.append(episode("keep25", seed, one, list(ours_ms * spread), warm_up))
    plan = EvaluationPlan(("reach",), ("full", "keep25"), range(len(ours)))
    found = claim_of(Results(plan, tuple(episodes), KEEPS), 200)
    assert found is not None
    return found


def test_faster_at_the_same_success():
    found = claim([True] * 20, [True] * 20, 10, 20)
    assert found.times_faster.value == pytest.approx(2)
    assert found.times_faster.low == pytest.approx(2, abs=0.1) == found.times_faster.high
    assert found.sentence() == (
        "keep25 against full, 20 pairs of episodes: no difference of success shown, 20 solved instead of 20 "
        "(+0 points, 95 %: -16 to +16: few episodes); a control step is 2.00 times as fast (95 %: "
        f"{found.times_faster.low:.2f} to {found.times_faster.high:.2f}); "
        "50 of 200 visual tokens a step, 25%."
    )


def test_a_loss_is_called_one():
    found = claim([True] * 10 + [False] * 20, [True] * 30, 10, 20)
    assert found.difference.value == pytest.approx(-2 / 3) and found.difference.high < 0
    assert "success is lost, 10 solved instead of 30 (-67 points" in found.sentence()
    gained = claim([True] * 30, [True] * 10 + [False] * 20, 10, 20)
    assert "success is gained, 30 solved instead of 10 (+67 points" in gained.sentence()


def test_a_slower_profile_is_called_slower():
    assert "a control step is slower, 0.50 times as fast" in claim([True], [True], 20, 10).sentence()
    assert "no faster that could be shown" in claim([True] * 9, [True] * 9, 10, 10).sentence()


def test_warm_up_counts_for_speed_and_tokens():
    found = claim([True] * 4, [True] * 4, 10, 20, warm_up=4)
    assert found.visual_tokens.value == 0.4 * 200 + 0.6 * 50
    base = [episode("full", 0, True, [20.0] * 10), episode("keep25", 0, True, [20.0] * 6 + [5.0] * 4, 6)]
    plan = EvaluationPlan(("reach",), ("full", "keep25"), range(1))
    mostly_full = claim_of(Results(plan, tuple(base), KEEPS), 200)
    assert mostly_full is not None and mostly_full.times_faster.value == 1, "the median step is a full one"
    varying = dataclasses.replace(found, visual_tokens=Estimate(110, 90, 130))
    assert varying.sentence().endswith("110 of 200 visual tokens a step, 55% (95 %: 90 to 130).")


def test_the_smallest_is_compared_with_the_largest_and_one_with_nothing():
    episodes = tuple(episode(name, 0, True, [5.0]) for name in KEEPS)
    plan = EvaluationPlan(("reach",), ("keep50", "full", "keep25"), range(1))
    found = claim_of(Results(plan, episodes, KEEPS), 200)
    assert found is not None and (found.profile, found.against) == ("keep25", "full")
    alone = dataclasses.replace(plan, profiles=("keep25",))
    assert claim_of(Results(alone, episodes, KEEPS), 200) is None


def test_nothing_is_claimed_of_what_was_refused_throughout():
    refused = Episode("reach", 0, "keep25", "it", False, False, 1, (ControlStep(9, "", 0, True, {}),))
    plan = EvaluationPlan(("reach",), ("full", "keep25"), range(1))
    results = Results(plan, (episode("full", 0, True, [5.0]), refused), KEEPS)
    assert claim_of(results, 200) is None


def test_the_manifest_says_which_profile_is_shown(in_process: Connection):
    manifest = in_process.manifest
    full, quarter = manifest.profiles
    assert reduced_profiles(manifest) == ("full", "keep25")
    others = tuple(
        dataclasses.replace(quarter, name=f"keep{100 * ratio:g}", keep_ratio=ratio)
        for ratio in (0.5, 0.3, 0.125)
    )
    assert reduced_profiles(dataclasses.replace(manifest, profiles=(full, *others))) == ("full", "keep30")
    assert reduced_profiles(dataclasses.replace(manifest, profiles=(full,))) == ("full",)
