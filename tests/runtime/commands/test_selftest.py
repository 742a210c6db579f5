"""``saccade selftest`` on a real bundle, with the commands that it really runs."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from saccade.runtime.commands.main import main
from saccade.runtime.selftest.record import Status, read_selftest


def saccade(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_help_has_an_example() -> None:
    assert "Example:\n      saccade selftest\n" in saccade("selftest", "--help").output


def test_one_file_says_what_ran_and_what_did_not(tiny: Path, tmp_path: Path) -> None:
    """The tiny bundle is for another robot than the simulator's."""
    out = tmp_path / "sent.json"
    result = saccade("selftest", tiny, "--engine", "ort-cpu", "--quick", "--out", out)
    found = read_selftest(out)
    assert result.exit_code == 0, result.output
    by_name = {part.name: part for part in found.parts}
    assert [by_name[name].status for name in ("doctor", "build", "parity", "bench", "closed_loop")] == [
        Status.DONE,
        Status.SKIPPED,
        Status.SKIPPED,
        Status.DONE,
        Status.SKIPPED,
    ], result.output
    assert [cell["profile"] for cell in by_name["bench"].result["cells"]] == ["full", "keep50"]
    assert found.bundle["name"] == "tiny" and found.is_quick
    assert str(tmp_path) not in out.read_text(), "whose machine it was is told by nothing"
    read = saccade("selftest", "--read", out)
    assert read.exit_code == 0 and "skipped ort-cpu: parity" in read.output and "QUICK" in read.output


def test_a_failure_is_an_exit_code_and_in_the_file(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "sent.json"
    (tiny / "graphs" / "step.full.onnx").write_bytes(b"")
    assert "[bundle.integrity]" in saccade("selftest", tiny, "--out", out).output and not out.exists()
    out.write_text(json.dumps({"schema_version": 7}))
    assert "expected version 1, found 7" in saccade("selftest", "--read", out).output
