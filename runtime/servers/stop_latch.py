"""The stop latch: set by anyone at any time, released only by somebody who knew of every stop before it."""

from __future__ import annotations

import threading

from saccade.proto.errors import StoppedError


class StopLatch:
    """Cannot be released by a request that is older than the latest stop. Safe between threads; never waits long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reason: str | None = None
        self._stops = 0

    @property
    def is_set(self) -> bool:
        """Whether nothing may move."""
        return self._reason is not None

    def set(self, reason: str) -> None:
        """Stop; ``reason`` is shown to whoever is refused.

        Args:
            reason: Why, for people.
        """
        with self._lock:
            self._reason = reason or "no reason given"
            self._stops += 1

    def mark(self) -> int:
        """Return what :meth:`release` needs; to be taken when the request arrives, before it waits for anything."""
        with self._lock:
            return self._stops

    def release(self, mark: int) -> None:
        """Let things move again.

        Args:
            mark: What :meth:`mark` returned when the request arrived.

        Raises:
            StoppedError: Somebody stopped since ``mark`` was taken.
        """
        with self._lock:
            if self._stops != mark:
                self._refuse()
            self._reason = None

    def check(self) -> None:
        """Do nothing while the latch is not set.

        Raises:
            StoppedError: The latch is set.
        """
        if self.is_set:
            self._refuse()

    def _refuse(self) -> None:
        raise StoppedError(
            f"expected a released stop latch, found it set ({self._reason}): reset with release_stop once it is safe."
        )
