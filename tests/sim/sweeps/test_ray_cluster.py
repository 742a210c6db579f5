"""A Ray cluster of two nodes on this machine, one of which dies: the records are those of the local run."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from saccade.proto.errors import AddressError, UnavailableError, UnknownTaskError
from saccade.sim.sweeps.block import run_block
from saccade.sim.sweeps.choice import choose_workers
from saccade.sim.sweeps.sweep import run_sweep
from tests.sim.sweeps.blocks import blocks_of, text_without_timings

ray = pytest.importorskip("ray", reason="NOT TESTED ON A CLUSTER: Ray is not installed (extra [cluster])")
pytestmark = [
    pytest.mark.slow,
    # Ray's own, on its way in and out.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one core each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=node)
    found.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    yield found
    found.shutdown()


def acts_under(pid: int) -> bool:
    """Whether a daemon runs below a process: a block is under way on that node."""
    parents, daemons = {}, []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if b"saccade.sim.tied_daemon" in (entry / "cmdline").read_bytes():
                daemons.append(int(entry.name))
    while daemons:
        if pid in daemons:
            return True
        daemons = [parents[daemon] for daemon in daemons if daemon in parents]
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see where a block runs")
def test_a_node_that_dies_leaves_no_trace(cluster: Any, bundle: Path, tmp_path: Path) -> None:
    blocks = blocks_of(bundle)
    expected = text_without_timings([json.loads(run_block(block)) for block in blocks])
    told: list[str] = []
    over = threading.Event()
    (dies,) = cluster.worker_nodes
    (raylet,) = dies.all_processes["raylet"]

    def kill() -> None:
        while not over.wait(0.02):
            if acts_under(raylet.process.pid):
                cluster.remove_node(dies, allow_graceful=False)
                return

    killer = threading.Thread(target=kill)
    killer.start()
    workers = choose_workers(1, cluster.address, threads=1)
    try:
        found = run_sweep(blocks, workers, tmp_path / "blocks", told.append)
    finally:
        over.set()
        killer.join()
    assert any("lost, Ray says" in what and "run again (1 of 3)" in what for what in told), told
    assert text_without_timings(found) == expected
    local = run_sweep(blocks, choose_workers(1, None, threads=1), tmp_path / "blocks", told.append)
    assert told[-1] == "4 of 4 blocks are there already" and local == found

    unknown = blocks_of(bundle, templates=("fly",))[:1]
    with pytest.raises(UnknownTaskError, match=r"block colourful\.fly\.full\.0_0: expected tasks"):
        run_sweep(unknown, choose_workers(1, cluster.address, threads=1), tmp_path / "unknown", told.append)


def test_an_address_that_nobody_answers_is_an_error(bundle: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        with pytest.raises(
            UnavailableError, match=f"Ray cluster at {address}, found nobody.*ray start --head"
        ):
            run_sweep(blocks_of(bundle), choose_workers(1, address, threads=1), tmp_path, print)
    with pytest.raises(AddressError):
        run_sweep(blocks_of(bundle), choose_workers(1, "head", threads=1), tmp_path, print)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_ray_is_an_error(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from saccade.sim.sweeps import ray_cluster

    monkeypatch.setattr(ray_cluster, "_JOIN_TIMEOUT_S", 5.0)
    with subprocess.Popen(
        [sys.executable, "-m", "http.server", "0"],
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        cwd=tmp_path,
        env={"PYTHONUNBUFFERED": "1"},
    ) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().split(" port ")[1].split()[0]
            with pytest.raises(UnavailableError, match=f"Ray cluster at 127.0.0.1:{port}, found"):
                run_sweep(
                    blocks_of(bundle), choose_workers(1, f"127.0.0.1:{port}", threads=1), tmp_path, print
                )
        finally:
            server.kill()
