"""What the daemon does with questions, without a transport: request message in, pieces of an answer or error out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

from saccade.proto.manifest import Manifest, manifest_to_json
from saccade.proto.tensor_names import IMAGES
from saccade.proto.v1 import control_pb2 as wire
from saccade.runtime.answering.answer_thread import AnswerThread
from saccade.runtime.answering.question import Piece
from saccade.runtime.servers.counters import Counters
from saccade.runtime.transports.wire_format import piece_to_wire, question_from_wire

WhenGone = Callable[[Callable[[], None]], bool]
"""Takes what to call once the caller has gone; False = it has gone already, and nothing will be called."""

_FULL_HD_BYTES = 1920 * 1080 * 3
_MOST_UNFITTED_BYTES = 64 << 20
"""Most bytes of a question's pictures that are not fitted. Many frames of a video come fitted; room for all of them at
full size would be a gift to whoever floods."""


class AnswerEndpoint:
    """One answerer, one question at a time, from anyone.

    Args:
        thread: Answerer, loaded and warmed.
        counters: Counters of the daemon, which questions and answers are added to.

    Attributes:
        manifest_json: Manifest of the bundle that answers, verbatim.
        question_bytes: Room for the pictures of one question, bytes: fitted ones, or full HD ones within 64 MiB.
    """

    def __init__(self, thread: AnswerThread, counters: Counters) -> None:
        self.manifest_json = manifest_to_json(thread.manifest)
        self.question_bytes = _picture_bytes(thread.manifest)
        self._thread = thread
        self._counters = counters

    def generate(self, request: wire.Question, when_gone: WhenGone) -> Iterator[wire.AnswerPiece]:
        """Answer a question, piece by piece, until the caller has gone or leaves.

        Args:
            request: The question.
            when_gone: Tells when nobody waits for the answer any more.

        Raises:
            AnswererBusyError: Another question is being answered.
            DrainingError: The daemon is shutting down.
            SaccadeError: Whatever :meth:`saccade.runtime.answering.answerer.Answerer.answer` raises.
        """
        running = self._thread.ask(question_from_wire(request))
        self._counters.count("questions")
        is_whole = False
        try:
            if when_gone(running.stop):
                for piece in running.pieces():
                    self._count(piece)
                    is_whole = piece.is_last
                    yield piece_to_wire(piece)
        finally:
            running.stop()
            self._counters.count("answers" if is_whole else "answers.broken_off")

    def drain(self) -> None:
        """Break off the answer that runs, and every later one."""
        self._thread.drain()

    def _count(self, piece: Piece) -> None:
        self._counters.count("answer.tokens")
        took_ns = piece.timings_ns
        self._counters.time(
            "answer.token" if "token" in took_ns else "answer.prompt",
            took_ns.get("token", sum(took_ns.values())),
        )


def _picture_bytes(manifest: Manifest) -> int:
    fitted = sum(prod(spec.shape) for spec in manifest.tensors if spec.name == IMAGES)
    return max(fitted, min(len(manifest.views) * _FULL_HD_BYTES, _MOST_UNFITTED_BYTES))
