"""What scores views is told by the manifest, and must fit the robot; in the daemon and on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from saccade.proto import errors
from saccade.runtime.commands.main import main
from tests.runtime.scoring.robots import serving
from tests.tiny_answerer import write_tiny_answerer
from tests.tiny_scorer import write_tiny_scorer


def test_a_scorer_must_fit(robot: Path, scorer: Path, tiny: Path, tmp_path: Path) -> None:
    large = write_tiny_scorer(tmp_path / "large", side=16)
    answerer = write_tiny_answerer(tmp_path / "answerer")
    film = write_tiny_answerer(tmp_path / "film", frames=2)
    mute = write_tiny_answerer(tmp_path / "mute", text=80)
    for bundle, second, message in (
        (
            robot,
            robot,
            r"expected a bundle that answers questions, or one of kind 'scorer', .*found 'tiny', which controls",
        ),
        (
            tiny,
            scorer,
            r"expected a policy that reads view scores, found 'most_light' in 'tiny': serve it without",
        ),
        (
            robot,
            large,
            r"for the views scene 8x8, wrist 8x8, found one for scene 16x16, wrist 16x16: export it",
        ),
        (
            scorer,
            None,
            r"expected a bundle that controls a robot, found the scorer 'tiny scorer': .*--view-scorer",
        ),
        (scorer, scorer, r"expected a bundle that controls a robot"),
        (tiny, answerer, r"expected a policy that reads view scores"),
        (
            robot,
            answerer,
            r"room in 'tiny answerer' for the questions that score views, .*--max-text-tokens 256",
        ),
        (
            robot,
            film,
            r"asked about one picture at a time, found 'tiny answerer' for 2 frames of videos: .*--views 1",
        ),
        (robot, mute, r"has the word 'yes' as one token, found none in 'tiny answerer'"),
    ):
        with pytest.raises(errors.BundleError, match=message), serving(bundle, second):
            pass


def test_one_byte_of_the_scorer_is_enough(robot: Path, scorer: Path) -> None:
    graph = scorer / "graphs" / "score.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    with pytest.raises(errors.BundleIntegrityError, match=r"graphs/score\.onnx"), serving(robot, scorer):
        pass


def test_the_command_line_takes_a_scorer(robot: Path, scorer: Path, tiny: Path) -> None:
    found = CliRunner().invoke(
        main, ["serve", str(tiny), "--bind", "127.0.0.1:0", "--view-scorer", str(scorer)]
    )
    assert found.exit_code == 1
    assert "expected a policy that reads view scores" in found.output
    shown = CliRunner().invoke(main, ["inspect", str(scorer)])
    assert shown.exit_code == 0 and "these views, once per task" in shown.output
    assert "task.view_scores" in CliRunner().invoke(main, ["inspect", str(robot)]).output
    raw = CliRunner().invoke(main, ["inspect", str(scorer), "--json"])
    assert json.loads(raw.output)["manifest"]["kind"] == "scorer"


def test_doctor_runs_a_scorer_too(scorer: Path) -> None:
    found = CliRunner().invoke(main, ["doctor", str(scorer), "--bind", "127.0.0.1:0"])
    assert found.exit_code == 0, found.output
    assert "every profile runs: full" in found.output
