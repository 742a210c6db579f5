"""The daemon's last phase: calls that stand open are told when it begins."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Drain:
    """Begins once and never ends.

    Attributes:
        has_begun: Whether it has begun.
    """

    def __init__(self) -> None:
        self.has_begun = False
        self._lock = threading.Lock()
        self._told: dict[object, Callable[[], None]] = {}

    def begin(self) -> None:
        """Tell everyone who asked; again is nothing."""
        with self._lock:
            self.has_begun = True
            told, self._told = self._told, {}
        for tell in told.values():
            tell()

    def when_begun(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Have something called once it begins, at once if it has; return what takes that back.

        Args:
            tell: Called at most once, from the thread that begins it; does not wait.
        """
        mine = object()
        with self._lock:
            if not self.has_begun:
                self._told[mine] = tell
                return lambda: self._forget(mine)
        tell()
        return lambda: None

    def _forget(self, mine: object) -> None:
        with self._lock:
            self._told.pop(mine, None)
