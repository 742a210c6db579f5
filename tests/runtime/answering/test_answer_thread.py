"""What a reader is told when an answer is stopped, whichever thread is quicker."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from saccade.proto.errors import DrainingError, EngineError
from saccade.runtime.answering.answer_thread import RunningAnswer
from saccade.runtime.answering.answerer import Answerer
from saccade.runtime.answering.question import Question
from saccade.runtime.engines.ort import OrtBackend


class _SlowStop(OrtBackend):
    """Its interrupt returns when whoever was interrupted has come to its end."""

    def __init__(self) -> None:
        super().__init__(threads=1)
        self.interrupted, self.ended = threading.Event(), threading.Event()

    def interrupt(self) -> None:
        super().interrupt()
        self.interrupted.set()
        assert self.ended.wait(timeout=10)


class _Interrupted:
    """Answers nothing, and fails as an engine does that is interrupted."""

    def __init__(self, backend: _SlowStop, running: threading.Event) -> None:
        self._backend, self._running = backend, running

    def answer(self, _: Question) -> Any:
        self._running.set()
        assert self._backend.interrupted.wait(timeout=10)
        threading.Timer(0.05, self._backend.ended.set).start()
        raise EngineError("expected a run that ends, found it interrupted.")


class _Panic(BaseException):
    """As what a library in Rust raises when it panics."""


class _Panicking:
    """Answers nothing."""

    def answer(self, _: Question) -> Any:
        raise _Panic("index out of bounds")


def test_what_is_no_exception_reaches_the_reader_as_one() -> None:
    with OrtBackend(threads=1) as backend:
        answer = RunningAnswer(Question("what is here", {}), backend)
        answer.run(cast(Answerer, _Panicking()))
        with pytest.raises(RuntimeError, match="_Panic: index out of bounds"):
            list(answer.pieces())


def test_the_reason_of_a_stop_comes_before_the_error_that_it_causes() -> None:
    with _SlowStop() as backend:
        begun = threading.Event()
        answer = RunningAnswer(Question("what is here", {}), backend)
        engine = threading.Thread(target=answer.run, args=(_Interrupted(backend, begun),))
        engine.start()
        assert begun.wait(timeout=10)
        answer.stop(DrainingError("shutting down"))
        with pytest.raises(DrainingError):
            list(answer.pieces())
        engine.join()
