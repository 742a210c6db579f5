"""``saccade parity`` on a real bundle."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from saccade.runtime.commands.main import main


def saccade(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_help_has_an_example() -> None:
    assert "saccade parity ./saccade-mini --engine openvino" in saccade("parity", "--help").output


def test_what_was_found_is_printed_and_written(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "parity.json"
    result = saccade(
        "parity", tiny, "--engine", "ort-cpu", "--count", "3", "--profile", "keep50", "--json", out
    )
    assert result.exit_code == 0, result.output
    assert "keep50: 3 of 3 frames with the same tokens; largest errors there: dx [m] 0" in result.output
    found = json.loads(out.read_text())
    assert (found["engine"], found["reference"], found["source"]) == ("ort-cpu", "ort-cpu", "random")
    assert [profile["profile"] for profile in found["profiles"]] == ["keep50"] and found["breaches"] == []


def test_a_missing_engine_or_profile_is_refused(tiny: Path) -> None:
    assert saccade("parity", tiny).exit_code == 2, "there is no engine that it means by itself"
    assert "keep33" in saccade("parity", tiny, "--engine", "ort-cpu", "--profile", "keep33").output
