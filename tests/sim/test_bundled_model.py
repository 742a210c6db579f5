"""The bundle that ships: whole, ours, and able to do what it is told through the real daemon."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from saccade.runtime.bundle import Bundle
from saccade.sim.connection import connect
from saccade.sim.evaluation import EvaluationPlan, Unwatched, evaluate
from saccade.sim.seeds import held_out_seeds
from saccade.sim.tabletop.tables import BUNDLED


@pytest.fixture(scope="module")
def bundle_path() -> Path:
    return Path(str(files("saccade.sim") / "saccade_mini" / "bundle"))


def solved(connection, profile, *, is_told_wrong=False):
    plan = EvaluationPlan(BUNDLED.templates, (profile,), held_out_seeds(500, 4), is_told_wrong=is_told_wrong)
    episodes = evaluate(connection, plan, Unwatched()).episodes
    return sum(episode.is_success for episode in episodes), sum(episode.is_told_done for episode in episodes)


def test_bundle_is_whole_and_offers_the_profiles(bundle_path):
    manifest = Bundle.open(bundle_path).manifest
    assert [profile.name for profile in manifest.profiles] == ["full", "keep50", "keep25", "keep12.5"]
    assert [profile.keep for profile in manifest.profiles] == [288, 144, 72, 36]
    assert manifest.policy.name == "vla_pruner"


def test_bundle_does_what_it_is_told_and_only_that(bundle_path):
    with connect(bundle_path) as connection:
        assert solved(connection, "full")[0] >= 17  # of 20
        assert solved(connection, "keep25")[0] >= 16
        true, told = solved(connection, "full", is_told_wrong=True)
        assert true <= 1 and told >= 17
