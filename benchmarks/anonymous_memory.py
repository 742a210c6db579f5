"""The memory that a command needs of its own: what it maps from files the system can take back, and is not counted.

Linux only: it reads ``/proc``.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_INTERVAL_S = 0.02


class Watched(NamedTuple):
    """A command that ran.

    Args:
        code: Exit status of the command.
        seconds: Wall time, seconds.
        peak_bytes: Highest anonymous memory among the samples, bytes.
        said: Text that the command wrote.
    """

    code: int
    seconds: float
    peak_bytes: int
    said: str


def watch(command: Sequence[str], log: Path) -> Watched:
    """Run a command and sample its anonymous memory every 20 ms; what it writes goes to ``log``."""
    began = time.monotonic()
    peak = 0
    with log.open("w+", encoding="utf-8") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)  # noqa: S603 -- the caller's
        while process.poll() is None:
            peak = max(peak, anonymous_bytes(process.pid))
            time.sleep(_INTERVAL_S)
        said.seek(0)
        return Watched(process.returncode, time.monotonic() - began, peak, said.read())


def anonymous_bytes(pid: int) -> int:
    """Return the anonymous memory of a process, bytes; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)
