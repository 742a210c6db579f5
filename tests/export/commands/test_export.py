"""The command: arguments in, table or JSON out, errors in words."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from saccade.export.bundle.tensorrt_rtx import TARGETS
from saccade.proto.manifest import read_manifest
from saccade.runtime.commands.main import main


def export(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["export", *arguments])


def test_exports_and_reports_as_json(checkpoint_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    arguments = [str(checkpoint_path), "--out", str(out), "--policy", "keep_all", "--keep", "1.0"]
    result = export(*arguments, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["profiles"]["full"]["keep"] == 8
    assert report["never_varied"] == {"proprio": [], "action": []}
    assert (out / "manifest.json").is_file()
    again = export(*arguments)
    assert again.exit_code == 1
    assert "use --force to replace it" in again.output and again.output.endswith("[export]\n")
    graphs = {path.name: path.read_bytes() for path in (out / "graphs").iterdir()}
    still = shutil.copytree(checkpoint_path, tmp_path / "still")
    statistics = json.loads((still / "statistics.json").read_text())
    statistics["table"]["proprio"]["q99"][1] = statistics["table"]["proprio"]["q01"][1]
    (still / "statistics.json").write_text(json.dumps(statistics))
    forced = export(str(still), *arguments[1:], "--force", "--name", "my arm")
    assert forced.exit_code == 0, forced.output
    constant = read_manifest(out).proprio.names[1]
    assert f"Never varied in the data set: proprio {constant}." in forced.output
    receipt = json.loads((out / "receipts/export.json").read_text())
    assert receipt["never_varied"] == {"proprio": [constant], "action": []}
    assert json.loads((out / "manifest.json").read_text())["name"] == "my arm"
    assert {path.name: path.read_bytes() for path in (out / "graphs").iterdir()} == graphs


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--keep", "half"], "expected numbers such as 1.0,0.5"),
        (["--policy-option", "window"], "expected key=value, found 'window'"),
        (["--policy-option", "window=0"], "option 'window' must be in 1..64, found 0"),
        (["--policy", "keep_all"], "export it with --keep 1.0 only"),
        (["--policy", "no_such"], "[policy]"),
        (["--frames", "nowhere.npz"], "expected recorded frames"),
        (["--name", " "], "expected a name in one line, found ' '"),
        (["--head-step", "7"], "7_checkpoint.pt, found none; leave it out. [checkpoint]"),
    ],
)
def test_a_bad_argument_is_named(
    extra: list[str], message: str, checkpoint_path: Path, tmp_path: Path
) -> None:
    result = export(str(checkpoint_path), "--out", str(tmp_path / "b"), *extra)
    assert result.exit_code != 0
    assert message in " ".join(result.output.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [["export", "--policy", "keep_all", "--keep", "1.0"], ["export-scorer"]],
    ids=lambda each: each[0],
)
def test_the_tokenizer_may_lie_elsewhere(command: list[str], checkpoint_path: Path, tmp_path: Path) -> None:
    checkpoint, out = shutil.copytree(checkpoint_path, tmp_path / "checkpoint"), tmp_path / "bundle"
    given = tmp_path / "base/tokenizer.json"
    given.parent.mkdir()
    shutil.move(checkpoint / "tokenizer.json", given)
    arguments = [*command, str(checkpoint), "--out", str(out)]
    without = CliRunner().invoke(main, arguments)
    assert without.exit_code == 1 and "--tokenizer PATH" in " ".join(without.output.split())
    ran = CliRunner().invoke(main, [*arguments, "--tokenizer", str(given.parent)])
    assert ran.exit_code == 0, ran.output
    assert (out / "tokenizer.json").read_bytes() == given.read_bytes()


@pytest.mark.tensorrt_rtx
def test_tensorrt_rtx_builds_every_profile_on_request(checkpoint_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    arguments = [str(checkpoint_path), "--out", str(out), "--policy", "keep_all", "--keep", "1.0"]
    result = export(*arguments, "--check-tensorrt-rtx", "--json")
    assert result.exit_code == 0, result.output
    receipt = json.loads((out / "receipts/tensorrt_rtx.json").read_text())
    assert receipt == json.loads(result.stdout)["tensorrt_rtx"]
    assert tuple(receipt["full"]["plans"]) == TARGETS


def test_a_check_that_cannot_run_is_an_error(
    checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", None)
    arguments = [str(checkpoint_path), "--out", str(tmp_path / "b"), "--check-tensorrt-rtx"]
    result = export(*arguments)
    assert result.exit_code == 1 and result.output.endswith("[export.receipt]\n")
    assert "pip install 'saccade-vla[tensorrt-rtx]'" in " ".join(result.output.split())
    assert list(tmp_path.iterdir()) == []


def test_help_has_an_example() -> None:
    assert "saccade export runs/mini/checkpoint" in export("--help").output
