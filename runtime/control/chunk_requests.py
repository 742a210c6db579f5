"""Asks for chunks on a thread of its own, one after the other, while commands go on elsewhere."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from saccade.proto.errors import SaccadeError, SessionError, TransportError
from saccade.runtime.control.arm import Frame
from saccade.runtime.observation import ActionChunk, Observation, Robot

_LOG = logging.getLogger(__name__)
_RETRY_S = 0.02
_UNREACHED_S = 0.1
"""How long to wait after a refusal, and after a call that did not get through, seconds."""


class ChunkRequests:
    """Looks, asks, hands over; and again. Begins paused.

    Args:
        session: What answers observations; used by no one else but within :meth:`paused`.
        observe: Returns the newest frame; may wait for a camera.
        take: Takes a chunk; what it raises is counted, as refusals are.
        fail: Takes what ended the asking, once: the session is over or stopped, or the robot's own code failed.

    Attributes:
        counters: ``asked``, and ``errors.<code>`` of what was refused or did not get through.
    """

    def __init__(
        self,
        session: Robot,
        observe: Callable[[], Frame],
        take: Callable[[ActionChunk], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._session, self._observe, self._take, self._fail = session, observe, take, fail
        self.counters: Counter[str] = Counter()
        self._condition = threading.Condition()
        self._calls = threading.Lock()
        self._episode, self._sequence = 0, 0
        self._is_paused, self._is_closed = True, False
        self._thread = threading.Thread(target=self._run, name="saccade-chunks", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep the session free in a block that begins an episode; what was asked before it is never handed over.

        If the block raises, the asking stays paused.
        """
        self.pause()
        with self._calls:
            yield
            self._sequence = 0
        self.resume()

    def pause(self) -> None:
        """Ask no more; what was asked before is never handed over."""
        with self._condition:
            self._is_paused = True
            self._episode += 1
            self._condition.notify_all()

    def resume(self) -> None:
        """Go on asking in the same episode."""
        with self._condition:
            self._is_paused = False
            self._condition.notify_all()

    def close(self) -> None:
        """End the thread once the call that runs has been answered."""
        with self._condition:
            self._is_closed = True
            self._episode += 1
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while (episode := self._next_episode()) is not None:
            self._answer(episode)

    def _answer(self, episode: int) -> None:
        """Look, ask and hand over once, whatever comes of it."""
        try:
            frame = self._observe()
            chunk = self._ask(frame, episode)
            if chunk is not None:
                self._hand_over(chunk, episode)
        except SessionError as error:
            self._count(error)
            self._end(error, episode)
        except SaccadeError as error:
            self._count(error)
            self._sleep(_UNREACHED_S if isinstance(error, TransportError) else _RETRY_S)
        except Exception as error:  # noqa: BLE001 - the robot's own code; the control loop raises it
            self._end(error, episode)

    def _next_episode(self) -> int | None:
        with self._condition:
            self._condition.wait_for(lambda: self._is_closed or not self._is_paused)
            return None if self._is_closed else self._episode

    def _ask(self, frame: Frame, episode: int) -> ActionChunk | None:
        with self._calls:
            with self._condition:
                if episode != self._episode:
                    return None
                self._sequence += 1
                sequence = self._sequence
            self.counters["asked"] += 1
            return self._session.act(Observation(frame.images, frame.proprio, frame.captured_ns, sequence))

    def _hand_over(self, chunk: ActionChunk, episode: int) -> None:
        with self._condition:
            if episode == self._episode:
                self._take(chunk)

    def _end(self, error: Exception, episode: int) -> None:
        with self._condition:
            if episode != self._episode:
                return  # what failed was of an episode that is over
            self._is_paused = True
        self._fail(error)

    def _count(self, error: SaccadeError) -> None:
        self.counters[f"errors.{error.code}"] += 1
        if self.counters[f"errors.{error.code}"] == 1:
            _LOG.warning("no chunk: [%s] %s", error.code, error.message)

    def _sleep(self, seconds: float) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._is_closed or self._is_paused, seconds)
