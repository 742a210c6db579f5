"""A daemon does not outlive whoever started it, even if that is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from saccade.proto.errors import UnavailableError
from saccade.runtime.client import Client

_STARTER = """
import sys, time
from pathlib import Path
from saccade.sim.daemon_process import DaemonProcess

with DaemonProcess(Path(sys.argv[1]), threads=1) as daemon:
    print(daemon.address, flush=True)
    time.sleep(600)
"""


def test_a_daemon_ends_with_its_starter(bundle: Path) -> None:
    command = [sys.executable, "-c", _STARTER, str(bundle)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        address = starter.stdout.readline().strip()
        with Client(address) as client:
            assert client.describe().is_ready
        starter.kill()
    with Client(address, deadline_s=2) as client:
        while answers(client):  # until the test's own time is over
            pass


def answers(client: Client) -> bool:
    try:
        return client.describe().is_ready
    except UnavailableError:
        return False
