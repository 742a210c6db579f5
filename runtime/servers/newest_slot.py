"""A mailbox for one item in which the newest wins: what is old is never worth waiting for."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class NewestSlot(Generic[T]):
    """Holds at most one item, the newest. Safe between threads.

    Attributes:
        received: How many items were ever put.
        superseded: How many items a newer one replaced before they were taken.
    """

    def __init__(self) -> None:
        self.received = 0
        self.superseded = 0
        self._item: T | None = None
        self._is_closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> T | None:
        """Store ``item`` and return the one it replaced, or ``item`` itself if the slot is closed."""
        with self._changed:
            if self._is_closed:
                return item
            replaced, self._item = self._item, item
            self.received += 1
            self.superseded += replaced is not None
            self._changed.notify()
            return replaced

    def take(self) -> T | None:
        """Wait for an item and remove it; None once the slot is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._is_closed)
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """Wake the taker; what is still in the slot can be taken, nothing more can be put."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
