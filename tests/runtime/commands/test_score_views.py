"""The command says objects and scores, or why it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from saccade.runtime.commands.main import main
from saccade.runtime.scoring.query_objects import picture_question
from tests.runtime.scoring.test_visible_objects import ROOM, SAID, YES, tiny_objects, tiny_probability
from tests.tiny_answerer import tiny_picture, write_tiny_answerer
from tests.tiny_scorer import write_tiny_scorer

INSTRUCTION = "put the cup away"


def test_the_command_scores_pictures(tmp_path: Path) -> None:
    bundle = write_tiny_answerer(tmp_path / "answerer", spoken=YES, text=ROOM, max_new_tokens=SAID)
    paths = [str(tmp_path / f"{number}.png") for number in range(2)]
    for seed, path in enumerate(paths):
        Image.fromarray(tiny_picture(seed) // (seed + 1)).save(path)
    objects = tiny_objects(INSTRUCTION)
    question = picture_question(INSTRUCTION, objects)
    expected = [tiny_probability(tiny_picture(seed) // (seed + 1), question) for seed in range(2)]
    arguments = [
        "score-views",
        str(bundle),
        INSTRUCTION,
        "--threads=1",
        *(f"--image={path}" for path in paths),
    ]
    said = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert said["objects"] == list(objects)
    assert [score["image"] for score in said["scores"]] == paths
    assert [score["score"] for score in said["scores"]] == pytest.approx(expected, rel=1e-5)
    lines = CliRunner().invoke(main, arguments).stdout.splitlines()
    assert lines[0] == f"objects: {', '.join(objects)}"
    assert lines[1:] == [f"{score:8.4f}  {path}" for score, path in zip(expected, paths, strict=True)]


def test_what_cannot_be_scored_is_refused_in_one_message(tmp_path: Path) -> None:
    picture = tmp_path / "seen.png"
    Image.fromarray(tiny_picture()).save(picture)
    roomy = write_tiny_answerer(tmp_path / "roomy", spoken=YES, text=ROOM)
    for bundle, instruction, image, message in (
        (
            write_tiny_scorer(tmp_path / "scorer"),
            INSTRUCTION,
            picture,
            "expected a bundle that answers questions",
        ),
        (write_tiny_answerer(tmp_path / "narrow"), INSTRUCTION, picture, "--max-text-tokens 256"),
        (roomy, "", picture, "expected an instruction"),
        (roomy, INSTRUCTION, tmp_path / "none.png", "found no file"),
        (tmp_path / "nowhere", INSTRUCTION, picture, "nowhere"),
    ):
        found = CliRunner().invoke(main, ["score-views", str(bundle), instruction, "--image", str(image)])
        assert found.exit_code == 1 and message in found.output and "Traceback" not in found.output
