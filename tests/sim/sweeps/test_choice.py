"""Options choose who works; without Ray the cluster is refused with the way to get it."""

from __future__ import annotations

import subprocess
import sys

from saccade.sim.sweeps.choice import choose_workers
from saccade.sim.sweeps.local_workers import LocalWorkers


def test_this_machine_is_the_default() -> None:
    workers = choose_workers(2, None, threads=1)
    assert isinstance(workers, LocalWorkers) and workers.room() == 2


def test_a_cluster_without_ray_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['ray'] = None\n"
        "from saccade.proto.errors import SweepError\n"
        "from saccade.sim.sweeps.choice import choose_workers\n"
        "try: choose_workers(1, 'head:6379', threads=1)\n"
        "except SweepError as error: print(error.message)\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "expected Ray for --cluster head:6379" in found.stdout
    assert "pip install 'saccade-vla[cluster]'" in found.stdout
