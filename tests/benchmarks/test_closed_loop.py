"""The success table goes on where it was cut off, and its chart is drawn from it."""

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
    words = [
        "--bundle",
        f"one={bundles[0]}",
        "--profiles",
        "full,keep25",
        "--control",
        "full",
        "--tasks",
        "reach",
    ]
    words += ["--episodes", "2", "--block", "1", "--out", str(tmp_path / "closed_loop.json")]
    words += ["--blocks", str(tmp_path / "blocks")]

    def run(*more: str) -> tuple[int, list[list[object]], str]:
        found = CliRunner().invoke(main, [*words, *more])
        results = read_results(tmp_path / "closed_loop.json")
        return found.exit_code, [cell["key"] for cell in results["cells"]], found.output

    first = [
        ["one", "reach", "full", True, 0],
        ["one", "reach", "full", False, 0],
        ["one", "reach", "keep25", False, 0],
    ]
    assert run()[:2] == (0, first)
    before = read_results(tmp_path / "closed_loop.json")["cells"]
    assert [len(cell["outcomes"]) for cell in before] == [2, 2, 2]
    assert before[2]["ran"] == {"full": 4, "keep25": sum(before[2]["control_steps"]) - 4}
    added = [["other", "reach", "keep25", False, 0]]  # `full` is every bundle's: not run again
    code, keys, output = run("--bundle", f"other={bundles[1]}")
    assert (code, keys) == (0, first + added) and "6 of 8 blocks are there already" in output
    assert read_results(tmp_path / "closed_loop.json")["cells"][:3] == before
    code, keys, output = run("--execute", "8")
    assert (code, keys) == (1, first + added)
    assert "(execute 8), found another (execute 4)" in " ".join(output.split())

    code, keys, output = run("--time", "live", "--latency-ms", "50")
    assert (code, keys) == (1, first + added) and "'latency_ms': 50.0}), found another (time" in " ".join(
        output.split()
    )
    code, keys, output = run("--time", "live")
    assert (code, keys) == (2, first + added)
    assert "expected --jobs 1 where latency is measured, found 2" in output

    drawn = CliRunner().invoke(draw, ["--results", str(tmp_path), "--out", str(tmp_path / "charts")])
    assert drawn.exit_code == 0, drawn.output
    root = ET.parse(tmp_path / "charts" / "closed_loop.svg").getroot()  # noqa: S314 - our own output
    assert root.get("aria-label") == "Success by kept visual tokens"
    assert not (tmp_path / "charts" / "control_step.svg").exists()


def test_the_world_can_run_on(tmp_path: Path) -> None:
    bundle, out = write_tabletop_bundle(tmp_path / "one"), tmp_path / "closed_loop.json"
    words = ["--bundle", f"one={bundle}", "--profiles", "keep25", "--control", "", "--tasks", "reach"]
    words += ["--episodes", "1", "--threads", "1", "--execute", "8", "--out", str(out)]
    words += ["--blocks", str(tmp_path / "blocks")]
    found = CliRunner().invoke(main, [*words, "--time", "live", "--latency-ms", "100"])
    assert found.exit_code == 0, found.output
    results = read_results(out)
    assert results["settings"]["time"] == {"is_live": True, "latency_ms": 100.0}
    (cell,) = results["cells"]
    assert cell["control_steps"] == [16], "10 actions' time each: 2 to think, 8 to act"
    found = CliRunner().invoke(main, [*words, "--latency-ms", "100"])
    assert found.exit_code == 2 and "expected --time live" in found.output
