"""What Linux can do for steady control steps: priority over other programs, memory that stays, cores of one's own.

All of it is off unless asked for: a real-time thread that never waits takes its core from everything else there is.
Threads inherit what the process has when they are made, so it is asked for before an engine is loaded.
"""

from __future__ import annotations

import ctypes
import os
import resource
from dataclasses import dataclass

from saccade.proto.errors import ServeError

_LOCK_NOW_AND_LATER = 3  # MCL_CURRENT | MCL_FUTURE


@dataclass(frozen=True)
class RealTime:
    """What a process asks of the operating system.

    Args:
        priority: Priority of its threads among real-time ones (``SCHED_FIFO``), 1 to 99; 0 = an ordinary program.
        locks_memory: Whether none of its memory is ever swapped out, nor read from disk when it is first touched.
        cores: Numbers of the processors that it runs on; empty = any.

    Raises:
        ServeError: There is no such priority.
    """

    priority: int = 0
    locks_memory: bool = False
    cores: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.priority <= 99:
            raise ServeError(
                f"expected a real-time priority of 1 to 99, or 0 for none, found {self.priority}."
            )


NOT_REAL_TIME = RealTime()


def ask_for(real_time: RealTime) -> None:
    """Ask the operating system, for this process and for the threads that it makes from now on.

    Args:
        real_time: What to ask for.

    Raises:
        ServeError: It refuses, or is not Linux.
    """
    if real_time == NOT_REAL_TIME:
        return
    if not hasattr(os, "sched_setscheduler"):
        raise ServeError(
            "expected Linux for real-time priority, locked memory or cores, found another system."
        )
    if real_time.cores:
        _pin(real_time.cores)
    if real_time.locks_memory and ctypes.CDLL(None, use_errno=True).mlockall(_LOCK_NOW_AND_LATER):
        raise ServeError(
            f"expected to lock the memory, found: {os.strerror(ctypes.get_errno())}; {_memory_limit()}. Raise the "
            "limit: `ulimit -l unlimited`, or LimitMEMLOCK=infinity in the systemd unit."
        )
    if real_time.priority:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(real_time.priority))
        except OSError as error:
            raise ServeError(
                f"expected real-time priority {real_time.priority}, found: {error.strerror}; {_priority_limit()}. "
                f"Raise the limit: `ulimit -r {real_time.priority}`, or LimitRTPRIO={real_time.priority} in the "
                "systemd unit."
            ) from error


def what_is_allowed() -> str:
    """Return in words what a process of this user may ask for."""
    if not hasattr(os, "sched_setscheduler"):
        return "not on this system"
    return f"{_priority_limit()}, {_memory_limit()}, {len(os.sched_getaffinity(0))} processors"


def _pin(cores: tuple[int, ...]) -> None:
    usable = os.sched_getaffinity(0)
    if not set(cores) <= usable:
        raise ServeError(
            f"expected processors of {', '.join(map(str, sorted(usable)))}, found {', '.join(map(str, cores))}."
        )
    os.sched_setaffinity(0, cores)


def _priority_limit() -> str:
    if os.geteuid() == 0:
        return "as root any real-time priority"
    return f"a real-time priority of at most {resource.getrlimit(resource.RLIMIT_RTPRIO)[0]} is allowed"


def _memory_limit() -> str:
    most = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if os.geteuid() == 0 or most == resource.RLIM_INFINITY:
        return "all memory may be locked"
    return f"{most / 1e6:.1f} MB of memory may be locked"
