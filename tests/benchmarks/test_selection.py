"""The table joins what was measured, and says nothing of what was not."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.selection.bundles import export_all
from benchmarks.selection.contenders import (
    ABLATIONS,
    BASIS,
    CONTENDERS,
    KEEP_RATIOS,
    REFERENCES,
    TUNED,
    Contender,
)
from benchmarks.selection.coverage import Shown, coverage, shown
from benchmarks.selection.paired import Paired
from benchmarks.selection.pareto import pareto_chart
from benchmarks.selection.table import Row, full_steps_of, markdown, rows, summary
from saccade.export.control.tuned import read_tuned
from saccade.policies.registry import POLICIES
from saccade.proto.policy_spec import PolicySpec
from saccade.sim.scoring import SuccessRate
from saccade.sim.tabletop.env import TabletopEnv
from tests.export.samples import write_tiny_checkpoint
from tests.sim.tabletop_bundle import write_tabletop_bundle


def cell(
    label: str,
    task: str,
    profile: str,
    outcomes: str,
    *,
    told_wrong: bool = False,
    opening: int = 0,
    ran: dict[str, int] | None = None,
) -> dict[str, Any]:
    return {
        "key": [label, task, profile, told_wrong, opening],
        "task": task,
        "profile": profile,
        "first_seed": 7,
        "outcomes": outcomes,
        "ran": ran or {profile: 10},
    }


@pytest.fixture
def bundles(tmp_path: Path) -> dict[str, Path]:
    """Real ones, whose policy asks for two full control steps."""
    accounts = {
        "full": {"mean_visual_tokens": 288.0, "ratio_to_full": 1.0},
        "keep25": {"mean_visual_tokens": 80.0, "ratio_to_full": 0.7},
    }
    found = {}
    for label in ("a", "b"):
        found[label] = write_tabletop_bundle(tmp_path / label)
        (found[label] / "receipts").mkdir()
        (found[label] / "receipts" / "accounting.json").write_text(json.dumps(accounts))
    return found


FIELD = [Contender("a", "fastv", twin="fixed"), Contender("b", "fastv")]


def test_a_row_joins_loop_phases_and_latency(bundles: dict[str, Path]) -> None:
    loop = {
        "cells": [
            cell("a", "reach", "keep25", "1101", ran={"full": 2, "keep25": 6}),
            cell("a", "push", "keep25", "1111", ran={"full": 2, "keep25": 2}),
            cell("a", "push", "keep25", "0000", told_wrong=True),
        ]
    }
    errors = {"all": {"mean_mm": 1.25}, "grasp": {"mean_mm": 2.5}, "seen": {"told": 0.914}}
    latency = {
        "entries": [
            {"label": "a", "profile": "full", "p50_us": 20_000.0},
            {"label": "a", "profile": "keep25", "p50_us": 11_500.0},
            {"label": "fixed", "profile": "keep25", "p50_us": 11_270.0},
        ]
    }
    (row,) = rows(FIELD, bundles, loop, {"errors": {"a": {"keep25": errors}}}, latency)
    assert (row.success.successes, row.success.episodes, row.own_full) == (7, 8, "first 2")
    # Of 12 control steps 4 were full: tokens, work and time are those of the mean step, not of the pruned one.
    assert row.full_share == pytest.approx(4 / 12)
    assert row.tokens == pytest.approx((4 * 288 + 8 * 80) / 12)
    assert row.macs == pytest.approx((4 * 1.0 + 8 * 0.7) / 12)
    assert row.step_ms == pytest.approx((4 * 20 + 8 * 11.5) / 12)
    line = markdown([row]).splitlines()[4]
    assert line.startswith("| a | first 2 | 87.5 (53 to 98) | 1.25 | - | 2.50 |")
    assert line.endswith("| 91 | 33 | 149 | 80 | 14.3 | 2.0 |")


def test_rows_are_paired_within_budget_and_schedule(bundles: dict[str, Path]) -> None:
    loop = {
        "cells": [
            cell("a", "reach", "full", "11111111"),
            cell("a", "reach", "keep25", "11111100"),
            cell("b", "reach", "keep25", "00000011"),
            cell("a", "reach", "keep25", "00000000", opening=3),
            cell("b", "reach", "keep25", "00001111", opening=3),
            cell("a", "push", "keep25", "1", ran={"keep25": 1}),  # `full` was not run on it: no pair
        ]
    }
    found = {(row.label, row.profile, row.opening): row for row in rows(FIELD, bundles, loop, {}, {}, ("a",))}
    assert found["a", "full", 0].versus == {}
    assert found["a", "keep25", 0].versus == {"full": Paired(6, 0, 2, 0)}
    assert found["b", "keep25", 0].versus == {"full": Paired(2, 0, 6, 0), "a": Paired(0, 2, 6, 0)}
    assert found["b", "keep25", 3].versus == {"full": Paired(4, 0, 4, 0), "a": Paired(0, 4, 0, 4)}
    table = markdown(list(found.values()))
    assert [line for line in table.splitlines() if line.startswith("###")] == [
        "### All tokens",
        "### Budget 25 %",
        "### Budget 25 %, the first 3 control steps full for everyone",
    ]
    assert "| less full (95 %), p | less a (95 %), p |" in table and "| -75.0 (" in table
    moving = rows(FIELD, bundles, loop, {}, {}, ("a",), templates=("push",))
    assert [(row.label, row.success.episodes) for row in moving] == [("a", 1)]


def test_the_summary_ranks_by_the_smallest_budget() -> None:
    def cells(label: str, *rates: int) -> list[Row]:
        named = zip((("full", 0), ("keep50", 0), ("keep12.5", 0), ("keep12.5", 3)), rates, strict=True)
        return [
            Row(label, name, SuccessRate(rate, 100), {}, 50, 0.5, 9.0, opening)
            for (name, opening), rate in named
        ]

    found = [
        *cells("early", 99, 98, 40, 97),
        *cells("late", 99, 90, 80, 81),
        *cells("cut off", 99, 99, 99, 99)[:3],
    ]
    lines = summary(found).splitlines()
    assert (
        lines[0]
        == "| policy | own full steps | 50 % | 12.5 % | 12.5 %, 3 full first | tokens, ms at 12.5 % |"
    )
    assert lines[2:] == [
        "| late | - | 90.0 | 80.0 | 81.0 | 50, 9.0 |",
        "| early | - | 98.0 | 40.0 | 97.0 | 50, 9.0 |",
    ]


def test_what_a_policy_runs_in_full_is_said_in_words() -> None:
    assert full_steps_of(PolicySpec("x", {}, 0, 0)) == ""
    assert full_steps_of(PolicySpec("x", {}, 3, 8)) == "first 3, every 8"


def test_coverage_counts_what_survives() -> None:
    scene = Shown(np.array([1, 1, 0, 0], bool), np.array([1, 1, 1, 0], bool))
    found = coverage([np.array([0, 3]), np.array([0, 1, 2])], [scene, scene])
    assert found == {"told": 0.75, "things": 0.6667, "empty": 0.25}


def test_tokens_show_what_the_instruction_names() -> None:
    with closing(TabletopEnv("place", image_px=160)) as env:
        env.reset(seed=3)
        scene = shown(env, 10)
        assert scene.told.shape == (200,) and 0 < scene.told.sum() < scene.things.sum() < 200
        assert not (scene.told & ~scene.things).any()


def test_the_frontier_holds_what_nothing_beats() -> None:
    def point(label: str, rate: int, p50_ms: float) -> Row:
        return Row(label, "keep25", SuccessRate(rate, 100), {}, 50, 0.5, p50_ms)

    svg = pareto_chart([point("fast", 60, 10), point("beaten", 55, 11), point("good", 90, 12)], "here")
    assert "fast 25 %" in svg and "good 25 %" in svg and "beaten 25 %" not in svg


def test_every_policy_that_selects_is_a_contender() -> None:
    assert {contender.policy for contender in CONTENDERS} == set(POLICIES) - {"keep_all"}
    labels = [contender.label for contender in (*CONTENDERS, *ABLATIONS)]
    assert len(labels) == len(set(labels))
    assert {contender.twin for contender in CONTENDERS} <= {None, *labels}
    assert {BASIS, *REFERENCES} <= set(labels)


def test_nobody_is_given_a_full_step_that_others_lack() -> None:
    """The schedule is the sweep's: a contender's options add none, and the manifest says what a method needs."""
    given = {"warmup_steps", "refresh_every"}
    assert [contender.label for contender in CONTENDERS if given & set(contender.options)] == []


def test_a_tuned_contender_has_a_search_for_each_budget() -> None:
    for contender in CONTENDERS:
        for ratio in KEEP_RATIOS if contender.is_tuned else ():
            if ratio < 1:
                found = read_tuned(TUNED / f"{contender.policy}-{ratio}.json")
                assert (found.policy, found.keep_ratio) == (contender.policy, ratio)


def test_the_sheet_is_an_image_with_a_row_for_each_bundle(tmp_path: Path) -> None:
    from importlib.resources import files

    from benchmarks.selection.contact_sheet import contact_sheet

    bundle = Path(str(files("saccade.sim") / "saccade_mini" / "bundle"))
    sheet = contact_sheet({"one": bundle, "two": bundle}, profile="keep25", threads=1)
    path = tmp_path / "sheet.png"
    sheet.save(path)
    with Image.open(path) as read:
        assert read.size == sheet.size
    assert sheet.size[1] > 2 * 144


def test_a_bundle_is_made_again_only_if_what_it_is_made_from_changed(tmp_path: Path) -> None:
    checkpoint, told = write_tiny_checkpoint(tmp_path / "checkpoint"), list[str]()

    def export() -> None:
        field = [Contender("centre crop", "center_crop")]
        export_all(field, tmp_path / "work", (1.0,), told.append, checkpoint=checkpoint, frames=None)

    export()
    export()
    assert told == ["export centre crop"]
    embodiment = checkpoint / "embodiment.json"
    embodiment.write_text(embodiment.read_text() + "\n")
    export()
    assert told == ["export centre crop"] * 2
