"""A question about pictures, and the pieces that its answer comes in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import QuestionError
from saccade.proto.manifest import Manifest
from saccade.runtime.answering.sampling import Sampling


@dataclass(frozen=True)
class Question:
    """A question about pictures, and how it is to be answered.

    Args:
        text: The question, in natural language.
        images: Pictures by the name of their view, uint8 ``(height, width, 3)`` RGB of any size, which the answerer
            fits as its manifest says; or what :func:`saccade.proto.fitted_picture.fit_picture` made of them.
            The frames of a video are views too, see :func:`saccade.runtime.answering.answerer.by_view`.
        profile: Name of the profile that runs; None = the answerer's own, which is ``full`` in a daemon.
        max_new_tokens: Most tokens of the answer; None = as many as the bundle has room for.
        sampling: How each token is drawn; None = as the checkpoint says, which is greedy where it says nothing.
    """

    text: str
    images: Mapping[str, NDArray[np.uint8]]
    profile: str | None = None
    max_new_tokens: int | None = None
    sampling: Sampling | None = None


@dataclass(frozen=True)
class Piece:
    """What one token adds to an answer.

    Args:
        token: Id of the token in the bundle's vocabulary.
        text: Text that is certain now; empty while a character is still open. The last piece brings what was held back.
        is_last: Whether the answer ends with this token.
        timings_ns: How long each stage of the token took, nanoseconds by the stage's name.
    """

    token: int
    text: str
    is_last: bool
    timings_ns: dict[str, int] = field(default_factory=dict)


class Answers(Protocol):
    """What answers questions: satisfied by the in-process answerer and by the client's.

    Attributes:
        manifest: Manifest of the bundle that answers.
    """

    manifest: Manifest

    def answer(self, question: Question) -> Iterator[Piece]:
        """Answer a question; whoever stops asking for pieces stops the answer.

        Args:
            question: Text, pictures, and how the answer is generated.
        """
        ...


def nobody_answers() -> QuestionError:
    """Return what a daemon without an answerer, or its client, says to a question."""
    return QuestionError(
        "expected a daemon that answers questions, found one that only controls a robot: start it with "
        "`saccade serve ... --answerer BUNDLE`."
    )
