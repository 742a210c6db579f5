"""QuoTA's scores: how likely a model that answers says that it sees something of the task in a picture.

Which objects the task is about is asked once, without a picture that shows anything; then each picture is asked whether
any of them is in it. Its score is the probability that the answer begins with *yes*: of the softmax over the whole
vocabulary the part of all tokens that spell it.

Source:
    QuoTA (2503.08689); MAC-AutoML/QuoTA at ec194d7. Deviations: it takes one token, the letter of the option that says
    yes; the objects it asks of the large model, without a picture, where a bundle that answers always has one: black.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import BundleError, ImageError, InstructionError
from saccade.proto.fitted_picture import fit_picture
from saccade.proto.manifest import Manifest
from saccade.runtime.answering.answerer import Answerer, answer_spec
from saccade.runtime.answering.question import Question
from saccade.runtime.answering.sampling import Sampling
from saccade.runtime.bundle import Bundle
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.scoring.query_objects import (
    decouple,
    list_objects_question,
    needs_objects_question,
    picture_question,
    visible_objects_question,
)
from saccade.runtime.tokens import InstructionTokens

_YES = "yes"
_MOST_ANSWERED = 128
"""Longest answer to a question about objects, in tokens."""
_REMEMBERED = 64
"""Instructions whose objects are remembered."""
_USUAL, _USUAL_OBJECTS = "put the red block on the blue plate", ("red block", "blue plate")


class VisibleObjects:
    """Asks a bundle that answers what a task is about, and of pictures whether they show it.

    Not safe to share between threads.

    Args:
        program: Executor of a bundle that answers about one picture; used by nobody else.
        profile: Name of the profile that runs.

    Raises:
        BundleError: The bundle does not answer, looks at several pictures, or its vocabulary has no *yes*.
        UnknownProfileError: The bundle has no such profile.
    """

    def __init__(self, program: ProgramExecutor, *, profile: str = "full") -> None:
        manifest = program.manifest
        check_sees_one_picture(manifest)
        self._answerer = Answerer(program, profile=profile)
        spec, view = answer_spec(manifest), manifest.views[0]
        self._view = view.name
        self._limit = min(spec.max_new_tokens, _MOST_ANSWERED)
        self._black = fit_picture(np.zeros((view.height, view.width, 3), np.uint8), view, spec.picture_fit)
        self._yes = [token for token in program.tokens.spelling(_YES) if token < spec.vocab_size]
        if not self._yes:
            raise BundleError(
                f"expected a vocabulary that has the word {_YES!r} as one token, found none in {manifest.name!r}: "
                "choose another model to score views."
            )
        self._known: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    def objects(self, instruction: str) -> tuple[str, ...]:
        """Return the objects that an instruction is about, none if it needs no particular ones; remembered.

        Args:
            instruction: What the arm shall do.

        Raises:
            InstructionError: A question is too long for the bundle, or no Unicode text.
            EngineError: The engine failed.
        """
        if instruction not in self._known:
            self._known[instruction] = decouple(instruction, self._ask)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(instruction)
        return self._known[instruction]

    def probability(self, picture: NDArray[np.uint8], instruction: str, objects: tuple[str, ...]) -> float:
        """Return how likely the model says that a picture shows any of the objects, 0..1.

        Args:
            picture: uint8 ``(height, width, 3)`` RGB of any size that the bundle can fit.
            instruction: What the arm shall do; asked about where there are no objects.
            objects: What :meth:`objects` found.

        Raises:
            ImageError: The picture cannot be fitted.
            InstructionError: The question is too long for the bundle.
            EngineError: The engine failed.
        """
        question = Question(picture_question(instruction, objects), {self._view: picture})
        logits = self._answerer.first_logits(question).astype(np.float64)
        weights = np.exp(logits - logits.max())
        return float(weights[self._yes].sum() / weights.sum())

    def _ask(self, question: str) -> str:
        greedy = Sampling()  # so that an instruction has the same objects every time
        asked = Question(question, {self._view: self._black}, None, self._limit, greedy)
        return "".join(piece.text for piece in self._answerer.answer(asked))


class ScoringQuestions:
    """Knows whether the questions about an instruction fit a bundle, without its engine. Not safe between threads.

    Args:
        bundle: A verified bundle that answers.

    Raises:
        BundleError: It does not answer, or has no room for the questions about an ordinary instruction.
    """

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        answer_spec(manifest)
        self._tokens = InstructionTokens(
            bundle.read(manifest.instruction.tokenizer), manifest.instruction, manifest.sequence
        )
        try:
            self.check(_USUAL)
            self._tokens.encode(visible_objects_question(_USUAL, _USUAL_OBJECTS))
        except InstructionError as error:
            raise BundleError(
                f"expected room in {manifest.name!r} for the questions that score views, found: {error.message} "
                "Export it with --max-text-tokens 256."
            ) from error

    def check(self, instruction: str) -> None:
        """Refuse an instruction that could not be asked about.

        Args:
            instruction: What the arm shall do.

        Raises:
            InstructionError: The instruction is empty, too long or no Unicode text.
        """
        if not instruction.strip():
            self._tokens.encode(instruction)
        for question in (
            needs_objects_question(instruction),
            list_objects_question(instruction),
            picture_question(instruction, ()),
        ):
            self._tokens.encode(question)


def check_sees_one_picture(manifest: Manifest) -> None:
    """Refuse a bundle that cannot be asked about one picture.

    Args:
        manifest: Manifest of the bundle.

    Raises:
        BundleError: It does not answer, or looks at several pictures or at videos.
    """
    video = answer_spec(manifest).video
    if len(manifest.views) != 1 or video is not None:
        what = f"{len(manifest.views)} {'pictures' if video is None else 'frames of videos'}"
        raise BundleError(
            f"expected a bundle that is asked about one picture at a time, found {manifest.name!r} for {what}: export "
            "it with --views 1 and without --frames."
        )


def check_fits(manifest: Manifest, robot: Manifest) -> None:
    """Refuse a bundle that answers but cannot fit the pictures of a robot.

    Args:
        manifest: Manifest of the bundle that answers.
        robot: Manifest of the bundle that the views are scored for.

    Raises:
        BundleError: A view of the robot cannot be fitted.
    """
    fit, taken = answer_spec(manifest).picture_fit, manifest.views[0]
    try:
        for view in robot.views:
            fit_picture(np.zeros((view.height, view.width, 3), np.uint8), taken, fit)
    except ImageError as error:
        raise BundleError(
            f"expected {manifest.name!r} to look at the views of {robot.name!r}, found: {error.message}"
        ) from error
