from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from saccade.proto.errors import InputError
from saccade.runtime.cores import checked_threads, usable_cores

CPUS = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content + "\n")
    return root


def test_every_processor_counts_that_is_no_other_ones_sibling(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == CPUS
    siblings = {
        f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": "0-999"
        for cpu in range(os.cpu_count() or 1)
    }
    assert usable_cores(machine(tmp_path, siblings)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only there a process has an affinity of its own")
def test_threads_follow_the_affinity(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores(tmp_path) == usable_cores() == 1
        assert checked_threads(4) == 4
        with pytest.raises(InputError, match="expected 0 to 4"):
            checked_threads(5)
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"proc/self/cgroup": "0::/robot/arm", "sys/fs/cgroup/robot/arm/cpu.max": "100000 100000"}, 1),
        ({"proc/self/cgroup": "0::/robot/arm", "sys/fs/cgroup/robot/cpu.max": "150000 100000"}, 1),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "20000 100000"}, 1),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, CPUS),
        (
            {
                "proc/self/cgroup": "4:memory:/\n3:cpu,cpuacct:/docker/7f",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            CPUS,
        ),
    ],
)
def test_threads_follow_the_quota(tmp_path: Path, files: dict[str, str], quota: int) -> None:
    assert usable_cores(machine(tmp_path, files)) == min(CPUS, quota)
