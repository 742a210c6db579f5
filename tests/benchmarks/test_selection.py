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
from benchmarks.selection.contenders import ABLATIONS, CONTENDERS, KEEP_RATIOS, TUNED, Contender
from benchmarks.selection.coverage import Shown, coverage, shown
from benchmarks.selection.pareto import pareto_chart
from benchmarks.selection.table import Row, markdown, rows, summary
from saccade.export.control.tuned import read_tuned
from saccade.policies.registry import POLICIES
from saccade.sim.scoring import SuccessRate
from saccade.sim.tabletop.env import TabletopEnv
from tests.export.samples import write_tiny_checkpoint


def cell(label: str, task: str, profile: str, outcomes: str, *, told_wrong: bool = False) -> dict[str, Any]:
    return {"key": [label, task, profile, told_wrong], "task": task, "profile": profile, "outcomes": outcomes}


@pytest.fixture
def bundles(tmp_path: Path) -> dict[str, Path]:
    receipts = tmp_path / "a" / "receipts"
    receipts.mkdir(parents=True)
    account = {"mean_visual_tokens": 80.0, "ratio_to_full": 0.7}
    (receipts / "accounting.json").write_text(json.dumps({"keep25": account, "keep50": account}))
    return {"a": tmp_path / "a"}


def test_a_row_joins_loop_phases_and_latency(bundles: dict[str, Path]) -> None:
    loop = {
        "cells": [
            cell("a", "reach", "keep25", "1101"),
            cell("a", "push", "keep25", "1111"),
            cell("a", "push", "keep25", "0000", told_wrong=True),
            cell("b", "push", "keep25", "0000"),
        ]
    }
    errors = {"all": {"mean_mm": 1.25}, "grasp": {"mean_mm": 2.5}, "seen": {"told": 0.914}}
    latency = {
        "entries": [
            {"label": "a", "profile": "keep25", "p50_us": 11_500.0},
            {"label": "fixed", "profile": "keep25", "p50_us": 11_270.0},
        ]
    }
    (row,) = rows(
        [Contender("a", "fastv", twin="fixed")], bundles, loop, {"errors": {"a": {"keep25": errors}}}, latency
    )
    assert (row.success.successes, row.success.episodes, row.p50_ms) == (7, 8, 11.5)
    line = markdown([row]).splitlines()[4]
    assert line.startswith("| a | 87.5 (53 to 98) | 1.25 | - | 2.50 | - | - | 91 | 80 | 70 | 11.5 | 2.0 |")


def test_the_summary_ranks_by_the_smallest_budget() -> None:
    def cells(label: str, *rates: int) -> list[Row]:
        named = zip(("full", "keep50", "keep12.5"), rates, strict=True)
        return [Row(label, name, SuccessRate(rate, 100), {}, 50, 0.5, 9.0) for name, rate in named]

    found = [*cells("early", 99, 98, 40), *cells("late", 99, 90, 80), *cells("cut off", 99, 99, 99)[:2]]
    lines = summary(found).splitlines()
    assert lines[0] == "| policy | 50 % | 12.5 % | p50 at 12.5 %, ms |"
    assert lines[2:] == ["| late | 90.0 | 80.0 | 9.0 |", "| early | 98.0 | 40.0 | 9.0 |"]


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
    assert sheet.size[1] > 2 * 120


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
