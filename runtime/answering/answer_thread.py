"""An answerer on a thread of its own, which gives way to the control steps of the same daemon.

What it shares with them: the processor's cores, its caches and the bandwidth of its memory, and Python's interpreter
lock: for some tens of microseconds a token, and while a question's message is read, some milliseconds where it brings
tens of megabytes. Counters are shared too, for microseconds. What is not: engines, their threads and buffers, and every
other lock.

On Linux the thread takes a low priority before the engine is loaded, and the engine's own threads inherit it: where
a control step and a token want the same core, the control step gets it. Elsewhere both compete as equals.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Iterator
from types import TracebackType

from saccade.proto.errors import AnswererBusyError, DrainingError, SaccadeError
from saccade.proto.manifest import Manifest
from saccade.runtime.answering.answerer import Answerer
from saccade.runtime.answering.question import Piece, Question
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.program import ProgramExecutor

_NICENESS = 10
_PATIENCE_S = 1.0
"""How long a question waits for the answer before it to end; word that its caller has left may still be on its way."""
_WIND_UP_S = 10.0
"""How long a question waits for a stopped answer to end: the node that runs is finished first."""


class RunningAnswer:
    """An answer in the making; made by :meth:`AnswerThread.ask`. Safe between threads.

    Args:
        question: What is asked.
        backend: The answerer's engine, which a stop interrupts.
    """

    def __init__(self, question: Question, backend: OrtBackend) -> None:
        self.question = question
        self._backend = backend
        self._lock = threading.Lock()
        self._is_running = self._is_stopped = False
        self._items: queue.SimpleQueue[Piece | Exception | None] = queue.SimpleQueue()

    @property
    def is_stopped(self) -> bool:
        """Whether nobody wants the rest of the answer."""
        return self._is_stopped

    def pieces(self) -> Iterator[Piece]:
        """Yield the pieces as they come; once the answer is stopped, only those that were made before.

        Raises:
            SaccadeError: What :meth:`.Answerer.answer` raises, or the reason of a stop.
        """
        while (item := self._items.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def stop(self, reason: SaccadeError | None = None) -> None:
        """End the answer at the next node of the graph that runs; without effect once it has ended.

        Args:
            reason: What :meth:`pieces` shall raise; None = it just ends.
        """
        with self._lock:
            if self._is_stopped:
                return
            self._is_stopped = True
            # Before the engine hears of it: whoever waits for a piece is told the reason, and need not wait.
            self._items.put(reason)
            if self._is_running:
                self._backend.interrupt()

    def run(self, answerer: Answerer) -> None:
        """Generate the answer, on the thread that owns ``answerer``."""
        with self._lock:
            if self._is_stopped:
                return
            self._backend.resume()
            self._is_running = True
        try:
            for piece in answerer.answer(self.question):
                self._items.put(piece)
        except BaseException as error:  # noqa: BLE001 - raised again where the pieces are read
            # That of a run that was interrupted comes behind the stop: nobody reads it.
            self._items.put(as_exception(error))
        finally:
            with self._lock:
                self._is_running = False
            self._items.put(None)


class AnswerThread:
    """Answers one question at a time, on its own thread with its own engine; a context manager.

    Args:
        bundle: A verified bundle that answers questions.
        threads: Threads of its engine; 0 = one for each core.
        prepack: Faster matrix products for a copy of the weights in each profile, see
            :class:`saccade.runtime.engines.ort.OrtBackend`.

    Raises (on entry):
        BundleError: The bundle does not answer, or cannot be used.
        EngineError: A graph cannot be loaded or run.

    Attributes:
        manifest: Manifest of the bundle that answers.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1, prepack: bool = True) -> None:
        self.manifest: Manifest = bundle.manifest
        self._bundle = bundle
        self._backend = OrtBackend(threads=threads, prepack=prepack)
        self._busy = threading.Lock()  # held while a question is answered
        self._running: RunningAnswer | None = None
        self._is_closed = False
        self._asked: queue.SimpleQueue[RunningAnswer | None] = queue.SimpleQueue()
        self._loaded: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="saccade-answers", daemon=True)

    def __enter__(self) -> AnswerThread:
        self._thread.start()
        if (error := self._loaded.get()) is not None:
            self._thread.join()
            raise error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drain()
        self._asked.put(None)
        self._thread.join()

    def ask(self, question: Question) -> RunningAnswer:
        """Begin an answer, once the one before has ended: that is waited for, but not long.

        Args:
            question: What is asked.

        Raises:
            AnswererBusyError: Another question is being answered.
            DrainingError: The daemon is shutting down.
        """
        if not self._busy.acquire(timeout=_PATIENCE_S) and not self._outlasts():
            raise AnswererBusyError(
                "expected an idle answerer, found it at another question: ask again once that is answered."
            )
        self._running = running = RunningAnswer(question, self._backend)
        self._asked.put(running)
        if self._is_closed:
            running.stop(_draining())
        return running

    def drain(self) -> None:
        """Stop the answer that runs, and every later one: whoever reads it is told so."""
        self._is_closed = True
        if (running := self._running) is not None:
            running.stop(_draining())

    def _outlasts(self) -> bool:
        """Wait for an answer that was stopped."""
        running = self._running
        return running is not None and running.is_stopped and self._busy.acquire(timeout=_WIND_UP_S)

    def _run(self) -> None:
        try:
            give_way()
            program = ProgramExecutor(self._bundle, self._backend)
            del self._bundle  # and the memory of what the program has copied
            answerer = Answerer(program)
            program.warm_up()
        except BaseException as error:  # noqa: BLE001 - raised again where the thread was started
            self._loaded.put(as_exception(error))
            return
        self._loaded.put(None)
        while (running := self._asked.get()) is not None:
            running.run(answerer)
            self._running = running = None  # its pictures may be large
            self._busy.release()


def give_way() -> None:
    """Lower the priority of this thread and of those that it starts; on Linux alone it is a thread's own."""
    if sys.platform == "linux":
        os.nice(_NICENESS)


def as_exception(error: BaseException) -> Exception:
    """Return what a server answers with: a library's panic is no Exception, and would end the thread that meets it."""
    if isinstance(error, Exception):
        return error
    found = RuntimeError(f"{type(error).__name__}: {error}")
    found.__cause__ = error
    return found


def _draining() -> DrainingError:
    return DrainingError("expected a daemon that answers, found it shutting down: ask again once it is back.")
