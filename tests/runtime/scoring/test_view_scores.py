"""Scores of the views that a client tells, through the real daemon; and who reads them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.proto import errors
from saccade.proto.manifest import Manifest
from saccade.runtime.bundle import Bundle
from saccade.runtime.client import Client
from saccade.runtime.scoring.view_scores import ordered_view_scores
from tests.runtime.scoring.robots import INSTRUCTION, expected, kept_by, serving
from tests.tiny_bundle import VIEWS, TinyOptions, tiny_observation, write_tiny_bundle


def test_the_client_says_which_view_matters(client: Client) -> None:
    assert expected((0, 1)) != expected((1, 0)) != expected((1, 1))
    with client.open() as session:
        for scores in ((0, 1), (1, 0), (0.25, 4)):
            session.reset(INSTRUCTION, view_scores=dict(zip(VIEWS, scores, strict=True)))
            kept, timings_ns = kept_by(session)
            assert kept == expected(scores)
            assert all("scorer.score" not in each for each in timings_ns), (
                "the client's win, nobody else is asked"
            )


def test_without_scores_every_view_matters_as_much(robot: Path) -> None:
    with serving(robot, None) as daemon, Client(daemon.address) as client, client.open() as session:
        session.reset(INSTRUCTION, view_scores=dict(zip(VIEWS, (0, 1), strict=True)))
        session.act(tiny_observation())
        session.reset(INSTRUCTION)
        assert kept_by(session)[0] == expected((1, 1)), "a new task forgets the scores of the last"


UNUSABLE = {
    "a view missing": ({"scene": 1.0}, r"each view of \['scene', 'wrist'\] or for none, .*: name all of them"),
    "a view unknown": ({"scene": 1.0, "wrist": 1.0, "top": 1.0}, "name all of them, or leave the scores out"),
    "another name": ({"scene": 1.0, "gripper": 1.0}, "name all of them"),
    "negative": ({"scene": 1.0, "wrist": -0.5}, r"finite view scores of 0 or more, found .*: send 0 for a view"),
    "NaN": ({"scene": math.nan, "wrist": 1.0}, "finite view scores of 0 or more"),
    "infinite": ({"scene": math.inf, "wrist": 1.0}, "finite view scores of 0 or more"),
    "beyond float32": ({"scene": 1e300, "wrist": 1.0}, "finite view scores of 0 or more"),
}  # fmt: skip


def test_unusable_scores_are_refused_and_the_episode_goes_on(client: Client) -> None:
    with client.open() as session:
        session.reset(INSTRUCTION, view_scores={"scene": 0, "wrist": 1})
        for scores, message in UNUSABLE.values():
            with pytest.raises(errors.ViewScoresError, match=message):
                session.reset("push", view_scores=scores)
        assert kept_by(session)[0] == expected((0, 1))


def test_scores_for_a_policy_that_reads_none_are_refused(tiny: Path) -> None:
    with serving(tiny, None) as daemon, Client(daemon.address) as client, client.open() as session:
        with pytest.raises(
            errors.ViewScoresError, match=r"the policy 'most_light' of 'tiny' reads none, .*: leave them out"
        ):
            session.reset(INSTRUCTION, view_scores={"scene": 1, "wrist": 1})
        session.reset(INSTRUCTION, view_scores={})


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    options = TinyOptions(reads_scores=True)
    return Bundle.open(
        write_tiny_bundle(tmp_path_factory.mktemp("scores") / "tiny", options=options)
    ).manifest


names = st.sampled_from(["scene", "wrist", "top", ""])


@given(st.dictionaries(names, st.floats(), max_size=3))
def test_wild_scores_are_put_in_order_or_refused(manifest: Manifest, scores: dict[str, float]) -> None:
    try:
        found = ordered_view_scores(scores, manifest)
    except errors.ViewScoresError:
        return
    assert found.dtype == np.float32 and np.isfinite(found).all() and (found >= 0).all()
    assert found.tolist() == [np.float32(scores[view.name]) for view in manifest.views]
