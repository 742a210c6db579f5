import json
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from saccade.export.control.pipeline import ExportReport
from saccade.runtime.commands.main import main


def test_lowers_and_reports(
    exported_once: Callable[[str], tuple[Path, ExportReport]],
    frames_file: Path,
    tmp_path: Path,
) -> None:
    bundle, _ = exported_once("vla_pruner")
    arguments = ["lower", str(bundle), "--to", "int4", "--rounding", "nearest", "--block", "16"]
    arguments += ["--frames", str(frames_file), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["lowerings"]["int4"]
    assert (found["settings"]["rounding"], found["settings"]["block"]) == ("nearest", 16)
    assert found["profiles"].keys() == {"full", "keep50", "keep25"}
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1 and "use --force to replace it" in again.output
    forced = CliRunner().invoke(main, [*arguments, "--force"])
    assert forced.exit_code == 0
    assert "on frames held out of calibration" in " ".join(forced.output.split())
