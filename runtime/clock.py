"""Time: integer monotonic nanoseconds, and how to know whether two programs read the same clock."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path

Clock = Callable[[], int]
"""Returns monotonic nanoseconds; its zero means nothing."""

monotonic_ns: Clock = time.monotonic_ns

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PROCESS_ID = uuid.uuid4().hex


def clock_id() -> str:
    """Name this program's monotonic clock: equal in two programs only if they share host and boot.

    Where the system does not say (not Linux), the name is unique to this process, so that nothing is compared.
    """
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return _PROCESS_ID
