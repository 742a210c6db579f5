"""How many cores a process may use: its affinity, and the quota of its control groups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from saccade.proto.errors import InputError

_ROOT = Path("/")
_THREADS_PER_CPU = 4
_GROUPS = {"": ("sys/fs/cgroup", "cpu.max"), "cpu": ("sys/fs/cgroup/cpu", "cpu.cfs_quota_us")}
"""Where version 2 and version 1 of control groups are mounted, and the file with the quota, by controller."""


def usable_cores(root: Path = _ROOT) -> int:
    """Return how many cores this process may use, at least 1: hardware threads of one core count once.

    Args:
        root: Where ``proc`` and ``sys`` are mounted.
    """
    cores = len({_siblings(root, cpu) for cpu in _cpus()})
    return max(1, min([cores, *(int(quota) for quota in _quotas(root))]))


def checked_threads(threads: int, name: str = "threads") -> int:
    """Return a number of threads if it is of any use.

    Args:
        threads: Threads of one engine; 0 = as many as there are cores.
        name: What the error calls it.

    Raises:
        InputError: It is negative, or more than four for each processor that this process may use.
    """
    most = _THREADS_PER_CPU * len(_cpus())
    if not 0 <= threads <= most:
        raise InputError(
            f"{name}: expected 0 to {most}, four for each processor that this process may use, found {threads}: "
            f"0 takes one for each core."
        )
    return threads


def _cpus() -> set[int]:
    """Return the numbers of the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _siblings(root: Path, cpu: int) -> str:
    """Return what names the core that a processor belongs to."""
    return _text(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas of this process's control groups and of those around them, in cores."""
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in set(controllers.split(",")) & set(_GROUPS):
            mount, name = _GROUPS[controller]
            group = Path(path.lstrip("/"))
            for around in (group, *group.parents):
                yield from _quota(root / mount / around / name)


def _quota(file: Path) -> Iterator[float]:
    """Yield the quota that a group's file tells, if there is one."""
    found = (_text(file) or "max").split()
    if len(found) == 1:  # version 1: two files, and -1 for no quota
        found += (_text(file.with_name("cpu.cfs_period_us")) or "0").split()
    quota, period = (int(number) if number.isdecimal() else 0 for number in found[:2])
    if quota and period:
        yield quota / period


def _text(file: Path) -> str | None:
    """Return a small file's text, None if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return None
