"""The probability of yes is what the logits say, about the objects that the model itself names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from saccade.proto import errors
from saccade.proto.picture_fit import FitMethod, PictureFit, Resample
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.scoring.query_objects import decouple, picture_question
from saccade.runtime.scoring.visible_objects import VisibleObjects, check_fits
from tests.tiny_answerer import KEEPS, tiny_answer, tiny_picture, words_with, write_tiny_answerer
from tests.tiny_bundle import write_tiny_bundle

ROOM, SAID = 80, 3
YES = {12: "yes", 20: "Yes"}
WORDS = words_with(YES)
BLACK = np.zeros((6, 6, 3), np.uint8)


def tiny_objects(instruction: str) -> tuple[str, ...]:
    """The objects that the tiny answerer names."""

    def ask(question: str) -> str:
        return " ".join(WORDS[token] for token in tiny_answer(BLACK, question, KEEPS["full"], SAID, WORDS))

    return decouple(instruction, ask)


def tiny_probability(picture: NDArray[np.uint8], question: str, profile: str = "full") -> float:
    """Its first logits fall by 1 for each word away from the likeliest one."""
    (peak,) = tiny_answer(picture, question, KEEPS[profile], 1, WORDS)
    weights = np.exp(-np.abs(np.arange(len(WORDS)) - peak, dtype=np.float64))
    return float(weights[[WORDS.index(word) for word in YES.values()]].sum() / weights.sum())


@pytest.fixture(params=["full", "keep50"])
def asked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VisibleObjects]:
    root = write_tiny_answerer(tmp_path / "answerer", spoken=YES, text=ROOM, max_new_tokens=SAID)
    with OrtBackend(threads=1) as backend:
        yield VisibleObjects(ProgramExecutor(Bundle.open(root), backend), profile=request.param)


def test_the_score_is_the_probability_of_yes(asked: VisibleObjects, request: pytest.FixtureRequest) -> None:
    profile, instruction = request.node.callspec.params["asked"], "put the cup away"
    for objects in (("cup", "red block"), ()):
        for seed in range(4):
            picture = tiny_picture(seed) // (seed + 1)
            expected = tiny_probability(picture, picture_question(instruction, objects), profile)
            assert asked.probability(picture, instruction, objects) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("asked", ["full"], indirect=True)
def test_objects_are_those_that_the_model_names_of_a_black_picture(asked: VisibleObjects) -> None:
    found = {
        instruction: asked.objects(instruction) for instruction in ("put it away", "what is here", "w1 w2")
    }
    assert found == {instruction: tiny_objects(instruction) for instruction in found}
    assert any(found.values())
    assert all(asked.objects(instruction) is objects for instruction, objects in found.items()), "remembered"
    with pytest.raises(errors.InstructionError, match="1 to 80 tokens"):
        asked.objects("w1 " * ROOM)


def test_views_that_cannot_be_fitted_are_refused(tmp_path: Path) -> None:
    manifest = Bundle.open(write_tiny_answerer(tmp_path / "answerer")).manifest
    assert manifest.answer is not None
    near = PictureFit(FitMethod.NEAR_ASPECT, Resample.BICUBIC, size=(6, 6))
    manifest = replace(manifest, answer=replace(manifest.answer, picture_fit=near))
    robot = Bundle.open(write_tiny_bundle(tmp_path / "robot")).manifest
    check_fits(manifest, robot)
    views = tuple(replace(view, width=24) for view in robot.views)
    tensors = tuple(
        replace(spec, shape=(1, 2, 8, 24, 3)) if spec.name == "images" else spec for spec in robot.tensors
    )
    with pytest.raises(errors.BundleError, match=r"at the views of 'tiny', found: .*--image-size 24x8"):
        check_fits(manifest, replace(robot, views=views, tensors=tensors))
