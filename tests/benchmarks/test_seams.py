"""The table of seams is run for each mode and delay, and written as it grows."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.results_file import read_results
from benchmarks.seams import main
from tests.sim.tabletop_bundle import write_tabletop_bundle


def test_every_mode_has_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saccade.sim.tabletop.world.HORIZON", 20)
    bundle = write_tabletop_bundle(tmp_path / "bundle")
    words = ["--bundle", str(bundle), "--tasks", "reach", "--delays-ms", "100", "--episodes", "1"]
    found = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "seams.json")])
    assert found.exit_code == 0, found.output
    results = read_results(tmp_path / "seams.json")
    assert [(row["mode"], row["delay_ms"]) for row in results["rows"]] == [
        ("as they come", 100.0),
        ("latest", 100.0),
        ("ensemble", 100.0),
        ("blend", 100.0),
    ]
    assert "motion" not in results["rows"][0]
    for row in results["rows"][1:]:
        (figures,) = row["motion"]
        assert figures["seams"] > 5 and 0 < figures["seam_velocity"] <= 0.44
        assert f"{row['mode']:<13}  100 ms  0/1  seams: " in found.output

    found = CliRunner().invoke(main, [*words, "--tasks", "fly", "--out", str(tmp_path / "none.json")])
    assert found.exit_code == 1 and "[simulator.unknown_task]" in found.output
