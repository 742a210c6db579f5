"""Time: integer monotonic nanoseconds, and how to know whether two programs read the same clock.

Client and daemon take every time that is an age or a deadline of the robot's from here, and from nowhere else.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path

Clock = Callable[[], int]
"""Returns monotonic nanoseconds; its zero means nothing."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)
_PROCESS_ID = uuid.uuid4().hex


def monotonic_ns() -> int:
    """Return nanoseconds that never go back, those that the machine slept through included.

    On Linux ``CLOCK_BOOTTIME``: :func:`time.monotonic_ns` stands still there while the machine is suspended, so a frame
    of last night would be as young this morning as it was then. Elsewhere :func:`time.monotonic_ns`.
    """
    return time.clock_gettime_ns(_CLOCK) if _CLOCK is not None else time.monotonic_ns()


def clock_id() -> str:
    """Name this program's monotonic clock: equal in two programs only if they share host, boot and kind of clock.

    Where the system does not say (not Linux), the name is unique to this process, so that nothing is compared.
    """
    try:
        return f"{_BOOT_ID.read_text(encoding='ascii').strip()} boottime"
    except OSError:
        return _PROCESS_ID
