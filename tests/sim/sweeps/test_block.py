"""A block is a part of an evaluation, and its record is all of what happened."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from saccade.sim.closed_loop import Episode
from saccade.sim.connection import Connection
from saccade.sim.evaluation import EvaluationPlan, Unwatched, evaluate
from saccade.sim.live_time import LiveTime
from saccade.sim.sweeps.block import Block, episodes_of, run_block
from tests.sim.tabletop_bundle import WARMUP_STEPS


def block(path: Path, **others: object) -> Block:
    asked = {
        "bundle": "colourful",
        "template": "reach",
        "profile": "keep25",
        "seeds": range(3, 5),
        "execute": 8,
    }
    return Block(path=path, **{**asked, **others})


def timeless(episode: Episode) -> Episode:
    steps = tuple(replace(step, latency_ns=0, timings_ns={}) for step in episode.control_steps)
    return replace(episode, control_steps=steps)


def test_a_record_holds_what_an_evaluation_finds(bundle: Path, in_process: Connection) -> None:
    record = json.loads(run_block(block(bundle)))
    expected = evaluate(in_process, EvaluationPlan(("reach",), ("keep25",), range(3, 5), 8), Unwatched())
    assert [timeless(episode) for episode in episodes_of(record)] == list(map(timeless, expected.episodes))
    assert record["keeps"] == {"full": 288, "keep25": 72}
    for episode, latencies in zip(episodes_of(record), record["timings"]["latency_ns"], strict=True):
        assert [step.latency_ns for step in episode.control_steps] == latencies and min(latencies) > 0


def test_an_opening_is_added_to_no_warm_up(bundle: Path) -> None:
    """The bundle's own warm-up lies within it: an opening of five is five full steps, not seven."""
    for opening, full in ((0, WARMUP_STEPS), (1, WARMUP_STEPS), (5, 5)):
        (episode,) = episodes_of(json.loads(run_block(block(bundle, seeds=range(1), opening=opening))))
        ran = [step.profile for step in episode.control_steps]
        assert ran == ["full"] * full + ["keep25"] * (len(ran) - full) and len(ran) > 5


def test_blocks_cover_their_seeds_once(tmp_path: Path) -> None:
    cut = list(block(tmp_path, seeds=range(7, 52)).cut(20))
    assert [part.seeds for part in cut] == [range(7, 27), range(27, 47), range(47, 52)]


def test_what_differs_in_settings_or_name_is_another_block(tmp_path: Path) -> None:
    one = block(tmp_path, bundle="Quota, flat/..")
    assert one.name == "quota_flat_...reach.keep25.3_4"
    named = [
        {"opening": 3},
        {"is_told_wrong": True},
        {"template": "push"},
        {"profile": "full"},
        {"seeds": range(3, 6)},
    ]
    assert len({one.name, *(replace(one, **change).name for change in named)}) == 1 + len(named)
    for change in (
        *named,
        {"execute": 4},
        {"live": LiveTime(5.0)},
        {"threads": 2},
        {"bundle": "quota flat .."},
    ):
        assert replace(one, **change).settings != one.settings
    assert replace(one, path=tmp_path / "moved").settings == one.settings
