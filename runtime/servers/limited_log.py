"""A log that whoever calls the daemon cannot fill."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from saccade.runtime.clock import Clock, monotonic_ns

PERIOD_NS = 1_000_000_000


@dataclass
class _Written:
    at_ns: int
    held_back: int = 0


class LimitedLog:
    """Writes one entry a second of each kind; the next one says how many were held back. Safe between threads.

    Args:
        log: Logger that writes.
        clock: Returns monotonic nanoseconds.
    """

    def __init__(self, log: logging.Logger, clock: Clock = monotonic_ns) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, _Written] = {}

    def write(self, level: int, kind: str, message: str, *, error: Exception | None = None) -> None:
        """Write an entry, unless there was one of this kind within the last second.

        Args:
            level: Level of the entry, as in :mod:`logging`.
            kind: Which entries count as one kind: one of a few words, never what a caller sent.
            message: The entry.
            error: Error whose traceback belongs to the entry.
        """
        now_ns = self._clock()
        with self._lock:
            last = self._last.get(kind)
            if last is not None and now_ns - last.at_ns < PERIOD_NS:
                last.held_back += 1
                return
            self._last[kind] = _Written(now_ns)
        more = f" ({last.held_back} more since the last such entry)" if last and last.held_back else ""
        self._log.log(level, "%s%s", message, more, exc_info=error)
