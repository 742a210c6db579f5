"""A mailbox for one item in which the newest wins: what is old is never worth waiting for."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

from saccade.runtime.paced_spin import PacedSpin

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

    def take(self, spin: PacedSpin | None = None) -> T | None:
        """Wait for an item and remove it.

        Args:
            spin: Says when to wait awake; None = never.

        Returns:
            The item; None once the slot is closed and empty.
        """
        while spin is not None and spin.is_on and not self._has_come():
            self._wait_near(spin)
        with self._changed:
            self._changed.wait_for(self._has_come)
            item, self._item = self._item, None
            return item

    def wake(self) -> None:
        """Have the taker ask its spin anew: something arrived that did not come through the slot."""
        with self._changed:
            self._changed.notify_all()

    def _has_come(self) -> bool:
        return self._item is not None or self._is_closed

    def _wait_near(self, spin: PacedSpin) -> None:
        """Wait asleep until it is time to spin or something changes, or spin."""
        left_ns = spin.left_ns()
        if left_ns == 0:
            spin.spin(self._has_come)
            return
        with self._changed:
            if not self._has_come():
                self._changed.wait(None if left_ns is None else left_ns / 1e9)

    def close(self) -> None:
        """Wake the taker; what is still in the slot can be taken, nothing more can be put."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
