"""The real command on the bundle that ships: parts that add up, and multiply what the receipt says."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import click
import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.charts import main as draw
from benchmarks.node_parts import BEFORE, BEHIND, CHOOSING, PARTS, REST, TOWER
from benchmarks.results_file import read_results
from benchmarks.step_parts import Pace, check_macs, first_cut, main, summarise, with_predictions
from saccade.proto.accounting import Account
from saccade.proto.roofline import ACTION_HEAD, DECODER, PROJECTOR, SELECTION, VISION, Part
from saccade.sim.cli import bundled_mini
from tests.tiny_bundle import write_tiny_bundle


def test_a_bundle_is_measured_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whether a profile lost nodes is told by their share of the time, which a busy machine changes at will.
    monkeypatch.setattr("benchmarks.step_parts._LEAST_ACCOUNTED", 0.0)
    words = [str(bundled_mini()), "--threads", "1", "--rounds", "2", "--block", "2", "--settle", "1"]
    found = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "step_parts.json")])
    assert found.exit_code == 0, found.output
    results = read_results(tmp_path / "step_parts.json")
    receipt = json.loads((bundled_mini() / "receipts" / "accounting.json").read_text())
    assert results["machine"]["cores"] >= 1 and results["settings"]["rounds"] == 2
    assert [cell["profile"] for cell in results["cells"]] == list(receipt)
    for cell in results["cells"]:
        said = {name: stage["macs"] for name, stage in receipt[cell["profile"]]["stages"].items()}
        macs = {part: cell["parts"][part]["macs"] for part in PARTS}
        assert macs[TOWER] == said["vision_tower"]
        assert macs[BEFORE] + macs[BEHIND] == said["decoder"]
        assert macs[REST] == said["projector"] + said["action_head"]
        assert 0 < macs[CHOOSING] <= said["selection"]
        raw = np.array([cell["parts"][part]["raw_us"] for part in PARTS])
        np.testing.assert_allclose(raw.sum(axis=0), cell["profiled"]["raw_us"], atol=1)
        assert len(cell["step"]["raw_us"]) == 4 and (raw > 0).all()
    assert results["cells"][0]["measured_over_predicted"] == 1

    drawn = CliRunner().invoke(draw, ["--results", str(tmp_path), "--out", str(tmp_path)])
    assert drawn.exit_code == 0, drawn.output
    root = ET.parse(tmp_path / "step_parts.svg").getroot()  # noqa: S314 - our own output
    bars = [float(bar.get("width", "nan")) for bar in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert len(bars) == 2 * len(PARTS) * len(results["cells"]) and all(width >= 0 for width in bars)
    assert sum(bars[:5]) == pytest.approx(sum(bars[5:10]), abs=1), "of `full`, MACs predict what was measured"


def test_another_kind_of_bundle_is_refused(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    found = CliRunner().invoke(main, [str(bundle), "--out", str(tmp_path / "out.json")])
    assert found.exit_code == 1 and "receipts/accounting.json" in found.output
    assert not (tmp_path / "out.json").exists()


def test_what_does_not_count_is_left_out_and_what_is_left_over_is_rest() -> None:
    pace = Pace(rounds=2, block=2, settle=1)
    assert pace.counted.tolist() == [False, True, True] * 2
    steps_ns = [9_000_000, 1_000_000, 2_000_000, 9_000_000, 3_000_000, 4_000_000]
    took = np.array([9000, 200, 400, 9000, 600, 800])
    parts = {part: (took * (part != REST), 10) for part in PARTS}
    cell = summarise(pace.counted, steps_ns, steps_ns, parts)
    assert cell["step"]["raw_us"] == [1000, 2000, 3000, 4000] and cell["macs"] == 50
    assert cell["in_nodes"] == 0.8 and cell["between_nodes_us"] == 500
    assert cell["parts"][REST]["raw_us"] == [200, 400, 600, 800] and cell["parts"][REST]["share"] == 0.2
    for factor in (0.5, 2):
        others = dict.fromkeys(PARTS, (took * factor, 10))
        with pytest.raises(click.ClickException, match="the profile does not belong to these runs"):
            summarise(pace.counted, steps_ns, steps_ns, others)


def test_macs_predict_in_proportion_to_full() -> None:
    cells = [
        {"profile": "full", "step": {"p50_us": 40_000}, "macs": 2000},
        {"profile": "keep25", "step": {"p50_us": 25_000}, "macs": 1000},
    ]
    full, pruned = with_predictions(cells)
    assert (full["predicted_us"], full["measured_over_predicted"], full["times_faster"]) == (40_000, 1, 1)
    assert (pruned["predicted_us"], pruned["measured_over_predicted"]) == (20_000, 1.25)
    assert pruned["times_faster"] == 1.6


def account(*by_layer: int) -> Account:
    parts = (Part(VISION, 200, 1), Part(PROJECTOR, 20, 1), Part(DECODER, 700, 1), Part(ACTION_HEAD, 30, 1))
    return Account((*parts, Part(SELECTION, 50, 0)), by_layer, 8, 0)


def test_the_first_cut_is_the_first_layer_that_sees_less() -> None:
    accounts = {"full": account(8, 8, 8), "keep50": account(8, 8, 4), "keep25": account(8, 4, 2)}
    assert first_cut(accounts) == 1
    assert first_cut({"full": account(8, 8, 8)}) == 3, "nothing is cut: every layer is before it"


def test_a_part_that_multiplies_other_than_the_receipt_is_an_error() -> None:
    right = {TOWER: 200, BEFORE: 300, BEHIND: 400, CHOOSING: 10, REST: 50}
    check_macs("keep25", right, account(8))
    for part in (TOWER, BEHIND, REST):
        with pytest.raises(
            click.ClickException, match=r"keep25: expected .* as in receipts/accounting\.json"
        ):
            check_macs("keep25", {**right, part: right[part] + 100}, account(8))
