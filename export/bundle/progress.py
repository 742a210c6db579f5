"""What a long export tells while it works: which part, how far, how long; and the terminal's display of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import Progress as Display
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn


class Progress(Protocol):
    """Told of what happens as a bundle is made; the command shows it."""

    def __call__(self, what: str) -> None:
        """Called as each part begins and goes on, e.g. ``keep25: capture``, ``keep25: weights, 3.1 of 27.9 GB``."""
        ...


@contextmanager
def shown() -> Iterator[Progress]:
    """Show progress on standard error while the body runs; nothing of it stays on the screen."""
    columns = (SpinnerColumn("line"), TextColumn("{task.description}"), TimeElapsedColumn())
    with Display(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task("export", total=None)
        yield lambda what: display.update(task, description=what)


def counted(progress: Progress, what: str, unit: str, size: float = 1.0) -> Callable[[int, int], None]:
    """Return a function that takes ``done`` and ``total`` of a part and tells them in units of ``size``."""
    digits = 0 if size == 1.0 else 1

    def tell(done: int, total: int) -> None:
        progress(f"{what}, {done / size:.{digits}f} of {total / size:.{digits}f} {unit}")

    return tell


class Stopwatch:
    """Announces each part of the work and measures the one before it.

    Args:
        progress: Told of each part of the work.
    """

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._current: tuple[str, int] | None = None

    def start(self, what: str) -> None:
        """End the part before and begin ``what``."""
        self.stop()
        self._progress(what)
        self._current = (what, time.monotonic_ns())

    def counted(self, what: str, unit: str, size: float = 1.0) -> Callable[[int, int], None]:
        """Begin ``what`` and return a function that tells its ``done`` and ``total``, in units of ``size``."""
        self.start(what)
        return counted(self._progress, what, unit, size)

    def stop(self) -> None:
        """End the part that is running, if any."""
        if self._current is not None:
            what, began_ns = self._current
            spent = self.seconds.get(what, 0.0) + (time.monotonic_ns() - began_ns) / 1e9
            self.seconds[what] = round(spent, 3)
            self._current = None
