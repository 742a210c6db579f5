"""The success table resumes where it was cut off, and its chart is drawn from it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from click.testing import CliRunner

from benchmarks.charts import main as draw
from benchmarks.closed_loop import main
from benchmarks.results_file import read_results
from tests.sim.tabletop_bundle import write_tabletop_bundle


def test_resumes_and_refuses_to_mix(tmp_path: Path) -> None:
    bundles = [write_tabletop_bundle(tmp_path / name) for name in ("one", "other")]
    words = ["--bundle", f"one={bundles[0]}", "--profiles", "full,keep25", "--control", "full"]
    words += ["--jobs", "2", "--episodes", "1", "--threads", "1", "--out", str(tmp_path / "closed_loop.json")]

    def run(*more: str) -> tuple[int, list[list[object]], str]:
        found = CliRunner().invoke(main, [*words, *more])
        results = read_results(tmp_path / "closed_loop.json")
        return found.exit_code, [cell["key"] for cell in results["cells"]], found.output

    first = [
        ["one", "reach", "full", True],
        ["one", "reach", "full", False],
        ["one", "reach", "keep25", False],
    ]
    assert run("--tasks", "reach")[:2] == (0, first)
    before = read_results(tmp_path / "closed_loop.json")["cells"]
    added = [["other", "reach", "keep25", False]]  # `full` is every bundle's: not run again
    assert run("--tasks", "reach", "--bundle", f"other={bundles[1]}")[:2] == (0, first + added)
    assert read_results(tmp_path / "closed_loop.json")["cells"][:3] == before
    code, keys, output = run("--tasks", "reach", "--execute", "8")
    assert (code, keys) == (2, first + added) and "its own settings" in output

    code, keys, output = run("--tasks", "reach", "--time", "live", "--latency-ms", "50")
    assert (code, keys) == (2, first + added) and "its own settings" in output
    code, keys, output = run("--tasks", "reach", "--time", "live")
    assert (code, keys) == (
        2,
        first + added,
    ) and "expected --jobs 1 where latency is measured, found 2" in output

    drawn = CliRunner().invoke(draw, ["--results", str(tmp_path), "--out", str(tmp_path / "charts")])
    assert drawn.exit_code == 0, drawn.output
    root = ET.parse(tmp_path / "charts" / "closed_loop.svg").getroot()  # noqa: S314 - our own output
    assert root.get("aria-label") == "Success by kept visual tokens"
    assert not (tmp_path / "charts" / "control_step.svg").exists()


def test_the_world_can_run_on(tmp_path: Path) -> None:
    bundle, out = write_tabletop_bundle(tmp_path / "one"), tmp_path / "closed_loop.json"
    words = ["--bundle", f"one={bundle}", "--profiles", "keep25", "--control", "", "--tasks", "reach"]
    words += ["--episodes", "1", "--threads", "1", "--execute", "8", "--out", str(out)]
    found = CliRunner().invoke(main, [*words, "--time", "live", "--latency-ms", "100"])
    assert found.exit_code == 0, found.output
    results = read_results(out)
    assert results["settings"]["time"] == {"is_live": True, "latency_ms": 100.0}
    (cell,) = results["cells"]
    assert cell["control_steps"] == [16], "10 actions' time each: 2 to think, 8 to act"
    found = CliRunner().invoke(main, [*words, "--latency-ms", "100"])
    assert found.exit_code == 2 and "expected --time live" in found.output
