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
    """What is asked.

    Args:
        text: The question.
        images: By the view's name, uint8 ``(height, width, 3)`` RGB of any size, or fitted already; see
            :meth:`saccade.runtime.answering.answerer.Answerer.answer`.
        profile: None = the answerer's.
        max_new_tokens: At most so many; None = as many as the bundle has room for.
        sampling: How each token is chosen.
    """

    text: str
    images: Mapping[str, NDArray[np.uint8]]
    profile: str | None = None
    max_new_tokens: int | None = None
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class Piece:
    """What one token adds to an answer.

    Args:
        token: Its id.
        text: The text that is certain now; may be empty.
        is_last: The answer ends with it.
        timings_ns: By stage.
    """

    token: int
    text: str
    is_last: bool
    timings_ns: dict[str, int] = field(default_factory=dict)


class Answers(Protocol):
    """What answers questions: satisfied by the in-process answerer and by the client's.

    Attributes:
        manifest: Of its bundle.
    """

    manifest: Manifest

    def answer(
        self,
        question: str,
        images: Mapping[str, NDArray[np.uint8]],
        *,
        profile: str | None = None,
        max_new_tokens: int | None = None,
        sampling: Sampling | None = None,
    ) -> Iterator[Piece]:
        """Answer a question; whoever stops asking for pieces stops the answer."""
        ...


def nobody_answers() -> QuestionError:
    """Return what a daemon without an answerer, or its client, says to a question."""
    return QuestionError(
        "expected a daemon that answers questions, found one that only controls a robot: start it with "
        "`saccade serve ... --answerer BUNDLE`."
    )
