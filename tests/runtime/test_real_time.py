"""In a process of its own each time: what is asked for cannot be taken back."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from saccade.proto.errors import ServeError
from saccade.runtime.real_time import RealTime, what_is_allowed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NOT CHECKED: Linux asks its kernel")
_SCRIPT = """
import json, os, resource, sys, threading
{limits}
from saccade.proto.errors import SaccadeError
from saccade.runtime.real_time import RealTime, ask_for
try:
    ask_for(RealTime(**json.loads(sys.argv[1])))
except SaccadeError as error:
    print(json.dumps({{"error": error.message}}))
    sys.exit()
found = {{}}
def look():
    locked = [line for line in open("/proc/self/status") if line.startswith("VmLck")]
    found.update(policy=os.sched_getscheduler(0), priority=os.sched_getparam(0).sched_priority,
                 cores=sorted(os.sched_getaffinity(0)), locked_kb=int(locked[0].split()[1]))
thread = threading.Thread(target=look)
thread.start()
thread.join()
print(json.dumps(found))
"""
_POOR = """
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
os.setuid(65534)
"""


def asked(limits: str = "", **real_time: object) -> dict[str, object]:
    """What a thread of a process has that asked for it."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT.format(limits=limits), json.dumps(real_time)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_nothing_asked_changes_nothing() -> None:
    found = asked()
    assert (found["policy"], found["locked_kb"]) == (os.SCHED_OTHER, 0)


def test_cores_are_pinned_for_threads_made_later() -> None:
    first = min(os.sched_getaffinity(0))
    assert asked(cores=[first])["cores"] == [first]
    assert "expected processors of" in str(asked(cores=[4096])["error"])


def test_a_priority_and_locked_memory_where_they_are_allowed() -> None:
    found = asked(priority=7, locks_memory=True)
    if "error" in found:
        pytest.skip(f"NOT CHECKED: {found['error']}")
    assert (found["policy"], found["priority"]) == (os.SCHED_FIFO, 7)
    assert int(str(found["locked_kb"])) > 1000


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT CHECKED: only root can become a user without rights")
def test_a_refusal_says_which_limit_to_raise() -> None:
    """As a user with no rights, whose modules were imported before."""
    poor = "from saccade.runtime import real_time" + _POOR
    message = str(asked(poor, priority=7)["error"])
    assert "expected real-time priority 7, found: Operation not permitted" in message
    assert "a real-time priority of at most 0 is allowed. Raise the limit: `ulimit -r 7`" in message
    message = str(asked(poor, locks_memory=True)["error"])
    assert "expected to lock the memory, found: " in message and "LimitMEMLOCK=infinity" in message


@pytest.mark.parametrize("priority", [-1, 100])
def test_there_are_99_priorities(priority: int) -> None:
    with pytest.raises(ServeError, match=f"1 to 99, or 0 for none, found {priority}"):
        RealTime(priority)


def test_what_is_allowed_is_said() -> None:
    assert "memory" in what_is_allowed() and "priority" in what_is_allowed()
