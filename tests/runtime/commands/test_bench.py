"""``saccade bench`` on a real bundle, briefly."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from saccade.runtime.commands.main import main
from saccade.runtime.engines.registry import why_not

MINI = Path(str(files("saccade.sim") / "saccade_mini" / "bundle"))


def saccade(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_every_profile_is_timed_at_every_pace_beside_its_limit(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    found = saccade(
        "bench", MINI, "--seconds", "0", "--steps", "1", "--hz", "50", "--threads", "1", "--json", out
    )
    assert found.exit_code == 0, found.output
    results = json.loads(out.read_text())
    profiles = ("full", "keep50", "keep25", "keep12.5")
    assert [(cell["profile"], cell["hz"]) for cell in results["cells"]] == [
        (profile, hz) for hz in (None, 50.0) for profile in profiles
    ]
    for cell in results["cells"]:
        durations = cell["raw_us"]["step"]
        assert len(durations) == cell["steps"] == sum(cell["ran"].values()) >= 1
        assert cell["max_ms"] == pytest.approx(max(durations) / 1e3, abs=1e-3)
        assert cell["p50_ms"] <= cell["p90_ms"] <= cell["p99_ms"] <= cell["max_ms"]
        assert cell["graphs_p50_ms"] <= cell["p50_ms"] and cell["limit_ms"] > 0
        assert cell["hz"] or not cell["late"]
    assert results["cells"][0]["macs"] > results["cells"][3]["macs"] > 0
    assert results["roofline"]["peaks"]["fp32"] > 0 and results["roofline"]["bandwidth"] > 0
    assert (results["engine"], results["threads"]) == ("ort-cpu", 1)
    assert "speed" in found.output and "GFLOP/s float32" in found.output


@pytest.mark.skipif(why_not("openvino") is not None, reason="the extra `openvino` is not installed")
def test_one_profile_on_another_engine(tmp_path: Path) -> None:
    found = saccade(
        "bench", MINI, "--profile", "keep25", "--engine", "openvino", "--seconds", "0", "--steps", "1"
    )
    assert found.exit_code == 0, found.output
    assert "keep25" in found.output and "keep50" not in found.output and "openvino" in found.output


def test_what_it_cannot_time_is_refused_before_anything_runs(tmp_path: Path) -> None:
    missing = saccade("bench", MINI, "--profile", "keep33")
    assert missing.exit_code == 1 and "keep33" in missing.output
    nowhere = saccade("bench", MINI, "--json", tmp_path / "no" / "folder" / "bench.json")
    assert nowhere.exit_code == 1 and "bench.json" in nowhere.output
    unknown = saccade("bench", MINI, "--instruction", "xyzzy", "--seconds", "0", "--steps", "1")
    assert unknown.exit_code == 1 and "xyzzy" in unknown.output
