"""Questions about pictures, answered in text, token by token."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from saccade.proto.answer_spec import AnswerSpec
from saccade.proto.errors import BundleError, EngineError, ImageError, QuestionError
from saccade.proto.fitted_picture import fit_picture
from saccade.proto.manifest import Manifest, ViewSpec
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.tensor_names import LOGITS
from saccade.runtime.answering.question import Piece, Question
from saccade.runtime.answering.sampling import Sampler, Sampling
from saccade.runtime.answering.token_rules import TokenRules
from saccade.runtime.program import ProgramExecutor

_FITTED_AXES = 4

Shown = TypeVar("Shown")


class Answerer:
    """Answers one question at a time.

    Args:
        program: Executor of a bundle that answers; used by nobody else.
        profile: Name of the profile that answers where a question names none.

    Raises:
        BundleError: The bundle does not answer.
        UnknownProfileError: The bundle has no such profile.
    """

    def __init__(self, program: ProgramExecutor, *, profile: str = FULL_PROFILE) -> None:
        self.manifest = program.manifest
        self._spec = answer_spec(self.manifest)
        self._program = program
        self._profile = self.manifest.profile(profile).name
        self._turn = 0

    def answer(self, question: Question) -> Iterator[Piece]:
        """Answer a question; whoever stops asking for pieces stops the answer, and so does the next question.

        Args:
            question: Text, pictures, and how the answer is generated.

        Raises:
            InstructionError: The question is empty, too long, no Unicode text, or has a token that the model lacks.
            ImageError: A picture is missing, unknown, of another dtype, or cannot be fitted.
            QuestionError: More tokens are asked for than there is room for, or none.
            EngineError: The engine failed, gave logits that are not finite, or the checkpoint's rules leave no token.

        The iterator raises QuestionError if another question was asked meanwhile: the caches are that one's.
        """
        limit = self._limit(question.max_new_tokens)
        profile, asked = self._put(question)
        rules = TokenRules(self._spec.choice, self._spec.end_ids, asked, limit)
        sampler = Sampler(question.sampling or Sampling.of(self._spec.choice))
        return self._pieces(profile, limit, len(asked), rules, sampler)

    def first_logits(self, question: Question) -> NDArray[np.float32]:
        """Return the logits of an answer's first token, float32 ``(vocab_size,)``; there is no answer behind it.

        Args:
            question: Text and pictures; how an answer would be generated changes nothing.

        Raises:
            SaccadeError: What :meth:`answer` raises, and its iterator.
        """
        profile, _ = self._put(question)
        logits: NDArray[np.float32] = _finite(self._program.step(profile, {})[LOGITS][0]).copy()
        return logits

    def _put(self, question: Question) -> tuple[str, list[int]]:
        """Write a question into the host tensors; return the profile that runs, and the tokens of the text."""
        profile = self.manifest.profile(question.profile or self._profile).name
        tokens = self._program.tokens.encode(question.text)
        fitted = self._fit(question.images)
        self._turn += 1
        self._program.reset()
        self._program.set_instruction(question.text)
        self._program.set_images(fitted)
        return profile, tokens.token_ids[0, : tokens.count].tolist()

    def _pieces(
        self, profile: str, limit: int, text_tokens: int, rules: TokenRules, sampler: Sampler
    ) -> Iterator[Piece]:
        detokenizer, turn = self._program.tokens.detokenizer(), self._turn
        timings_ns: dict[str, int] = {}
        logits = self._program.step(profile, timings_ns)[LOGITS][0]
        for number in range(limit):
            token = sampler.choose(rules.apply(_finite(logits)))
            rules.add(token)
            ends = token in self._spec.end_ids
            is_last = ends or number == limit - 1
            text = "" if ends else detokenizer.add(token)
            yield Piece(token, text + detokenizer.finish() if is_last else text, is_last, timings_ns)
            if is_last:
                return
            if turn != self._turn:
                raise QuestionError(
                    "expected one question at a time, found another asked before this answer ended."
                )
            timings_ns = {}
            started = time.monotonic_ns()
            position = self._spec.first_position + text_tokens + number
            logits = self._program.next_token(profile, token, position, timings_ns)
            timings_ns["token"] = time.monotonic_ns() - started

    def _limit(self, wanted: int | None) -> int:
        room = self._spec.max_new_tokens
        if wanted is not None and not 1 <= wanted <= room:
            raise QuestionError(
                f"expected 1 to {room} new tokens, the room of this bundle, found {wanted}; ask for fewer, or export "
                "with a larger --max-new-tokens."
            )
        return room if wanted is None else wanted

    def _fit(self, images: Mapping[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.uint8]]:
        names = [view.name for view in self.manifest.views]
        if sorted(images) != sorted(names):
            raise ImageError(
                f"expected the pictures {', '.join(names)}, found {', '.join(images) or 'none'}."
            )
        return {view.name: self._fitted(images[view.name], view) for view in self.manifest.views}

    def _fitted(self, picture: NDArray[np.uint8], view: ViewSpec) -> NDArray[np.uint8]:
        fit = self._spec.picture_fit
        if picture.ndim != _FITTED_AXES:
            return fit_picture(picture, view, fit)
        shape = (*fit.arrays((view.height, view.width)), 3)
        if picture.dtype != np.uint8 or picture.shape != shape:
            raise ImageError(
                f"picture {view.name!r}: expected uint8 {list(shape)} of one that is fitted already, found "
                f"{picture.dtype} {list(picture.shape)}; or send it as it is, (height, width, 3)."
            )
        return picture


def by_view(manifest: Manifest, pictures: Sequence[Shown]) -> dict[str, Shown]:
    """Give the pictures of a question the names of the views, in the manifest's order.

    Args:
        manifest: Manifest of a bundle that answers.
        pictures: One item for each view: pictures, all frames of the question's videos, or their files.

    Raises:
        ImageError: More or fewer items than the bundle has views.
    """
    views = manifest.views
    if len(pictures) != len(views):
        what = "pictures" if manifest.answer is None or manifest.answer.video is None else "frames"
        raise ImageError(
            f"expected {len(views)} {what}, as {manifest.name!r} was exported for, found {len(pictures)}."
        )
    return {view.name: picture for view, picture in zip(views, pictures, strict=True)}


def answer_spec(manifest: Manifest) -> AnswerSpec:
    """Return how the bundle answers.

    Raises:
        BundleError: The bundle does not answer questions.
    """
    if manifest.answer is None:
        raise BundleError(
            f"expected a bundle that answers questions, found {manifest.name!r}, which is of kind "
            f"{manifest.kind.value!r}; export a family that generates text."
        )
    return manifest.answer


def _finite(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(logits).all():
        raise EngineError(
            "expected finite logits, found NaN or infinity; compare the bundle's parity receipt."
        )
    return logits
