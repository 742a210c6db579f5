"""Scores by a bundle that answers, on a thread and an engine of its own, which give way to control steps.

A task takes three answers and a prompt for each view, which may be seconds. Nobody waits for them but who wants to: a
reset puts the questions, the first observation brings the pictures, and until the scores are there a control step is
refused. A new task ends the one before at the next node of the graph that runs.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import EngineError, SaccadeError, ViewsUnscoredError
from saccade.proto.manifest import Manifest
from saccade.runtime.answering.answer_thread import as_exception, give_way
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.scoring.view_scores import are_scores
from saccade.runtime.scoring.visible_objects import (
    ScoringQuestions,
    VisibleObjects,
    check_fits,
    check_sees_one_picture,
)

_LOG = logging.getLogger(__name__)


class AnsweringScorer:
    """A bundle that answers, asked what each view shows; a context manager.

    Args:
        bundle: A verified bundle that answers about one picture.
        robot: Manifest of the bundle that the views are scored for.
        threads: Threads of its engine; 0 = one for each core.
        prepack: Faster matrix products for a copy of the weights in each profile.

    Raises (on entry):
        BundleError: The bundle cannot be asked, or does not fit the robot's.
        EngineError: A graph cannot be loaded or run.
    """

    def __init__(self, bundle: Bundle, robot: Manifest, *, threads: int = 1, prepack: bool = True) -> None:
        self._manifest = bundle.manifest
        self._bundle = bundle
        self._robot = robot
        self._backend = OrtBackend(threads=threads, prepack=prepack)
        self._task: AnsweringScoring | None = None
        self._tasks: queue.SimpleQueue[AnsweringScoring | None] = queue.SimpleQueue()
        self._loaded: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="saccade-scores", daemon=True)

    def __enter__(self) -> AnsweringScorer:
        check_sees_one_picture(self._manifest)
        check_fits(self._manifest, self._robot)
        self._questions = ScoringQuestions(self._bundle)
        self._thread.start()
        if (error := self._loaded.get()) is not None:
            self._thread.join()
            raise error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_up()
        self._tasks.put(None)
        self._thread.join()

    def check(self, instruction: str) -> None:
        """See :meth:`saccade.runtime.scoring.view_scores.ViewScorer.check`."""
        self._questions.check(instruction)

    def begin(self, instruction: str) -> AnsweringScoring:
        """See :meth:`saccade.runtime.scoring.view_scores.ViewScorer.begin`."""
        self._give_up()
        self._task = task = AnsweringScoring(instruction, self._manifest.name, self._robot, self._backend)
        self._tasks.put(task)
        return task

    def _give_up(self) -> None:
        if self._task is not None:
            self._task.give_up()

    def _run(self) -> None:
        try:
            give_way()
            program = ProgramExecutor(self._bundle, self._backend)
            del self._bundle  # and the memory of what the program has copied
            asked = VisibleObjects(program)
            program.warm_up()
        except BaseException as error:  # noqa: BLE001 - raised again where the thread was started
            self._loaded.put(as_exception(error))
            return
        self._loaded.put(None)
        while (task := self._tasks.get()) is not None:
            task.run(asked)
            task = None  # its pictures may be large


class AnsweringScoring:
    """The views of one task; made by :meth:`AnsweringScorer.begin`. Safe between threads."""

    def __init__(self, instruction: str, scorer: str, robot: Manifest, backend: OrtBackend) -> None:
        self._instruction = instruction
        self._scorer = scorer
        self._views = [view.name for view in robot.views]
        self._backend = backend
        self._lock = threading.Lock()
        self._is_running = self._is_given_up = self._is_shown = False
        self._shown: queue.SimpleQueue[Mapping[str, NDArray[np.uint8]] | None] = queue.SimpleQueue()
        self._is_over = threading.Event()
        self._scores = np.zeros(0, np.float32)
        self._error: Exception | None = None
        self._took_ns: dict[str, int] = {}

    def look(self, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """See :meth:`saccade.runtime.scoring.view_scores.TaskScoring.look`."""
        if not self._is_shown:
            self._is_shown = True
            # A copy: a camera's buffer may be written again meanwhile.
            self._shown.put({name: images[name].copy() for name in self._views})

    def wait(self, timeout_s: float) -> bool:
        """See :meth:`saccade.runtime.scoring.view_scores.TaskScoring.wait`."""
        return self._is_over.wait(timeout_s)

    def scores(self, timings_ns: dict[str, int]) -> NDArray[np.float32]:
        """See :meth:`saccade.runtime.scoring.view_scores.TaskScoring.scores`."""
        if not self._is_over.is_set():
            raise ViewsUnscoredError(
                f"expected scored views, found {self._scorer!r} still looking at the first observation of the task: "
                "hold the arm and send a newer one."
            )
        if self._error is not None:
            found = self._error.message if isinstance(self._error, SaccadeError) else repr(self._error)
            raise EngineError(
                f"expected view scores from {self._scorer!r}, found: {found} Hold the arm; give scores in Reset, or "
                "serve without a view scorer."
            )
        timings_ns |= self._took_ns
        return self._scores

    def give_up(self) -> None:
        """End the scoring at the next node of the graph that runs; without effect once it is over."""
        with self._lock:
            self._is_given_up = True
            if self._is_running:
                self._backend.interrupt()
        self._shown.put(None)

    def run(self, asked: VisibleObjects) -> None:
        """Score, on the thread that owns ``asked``: the objects first, then the pictures once they are shown.

        Args:
            asked: What asks the bundle.
        """
        try:
            started = time.monotonic_ns()
            self._begin_running()
            objects = asked.objects(self._instruction)
            self._took_ns["scorer.objects"] = time.monotonic_ns() - started
            if (images := self._shown.get()) is None:
                raise self._given_up()
            started = time.monotonic_ns()
            found = [asked.probability(images[name], self._instruction, objects) for name in self._views]
            self._took_ns["scorer.views"] = time.monotonic_ns() - started
            self._scores = np.array(found, np.float32)
            if not are_scores(self._scores):
                raise EngineError(f"{found}, where each is a probability.")
        except BaseException as error:  # noqa: BLE001 - raised again in every control step of the task
            self._fail(error)
        finally:
            with self._lock:
                self._is_running = False
            self._is_over.set()

    def _begin_running(self) -> None:
        with self._lock:
            if self._is_given_up:
                raise self._given_up()
            self._backend.resume()
            self._is_running = True

    def _fail(self, error: BaseException) -> None:
        if not isinstance(error, SaccadeError):
            _LOG.error("scoring the views failed", exc_info=error)
        self._error = self._given_up() if self._is_given_up else as_exception(error)

    def _given_up(self) -> EngineError:
        return EngineError("another task has begun, or the scorer is shut down.")
