"""Blocks on a Ray cluster; only this file knows Ray. Bundles travel along: nodes need saccade and share no disk."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from saccade.proto.errors import SaccadeError, SweepError, UnavailableError
from saccade.runtime.address import parse_address
from saccade.sim.sweeps.block import Block, run_block
from saccade.sim.sweeps.identity import bundle_digest
from saccade.sim.sweeps.parcel import Parcel, Unpacked, pack
from saccade.sim.sweeps.workers import Lost, failed

_AUTO = "auto"
_CLIENT = "ray://"
_CONNECT_TIMEOUT_S = 10.0
_JOIN_TIMEOUT_S = 60.0
_BARE_TIMEOUT_S = 120.0
_LOOK_S = 5.0
_AHEAD = 2
"""Blocks for each core that are handed out: no core waits while the next block is on its way."""
_TRIAL = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False)"

_UNPACKED = Unpacked()


class RayCluster:
    """Runs blocks on the nodes of a Ray cluster; a context manager. A process has one at a time.

    Args:
        address: ``host:port`` of the head, for a machine that is itself a node; ``ray://host:port`` of the head's
            client server, for one that is not; ``auto`` for the cluster that this machine is a node of.
        cores: Cores that a block takes.

    Raises:
        AddressError: The address is none.
        UnavailableError: Nobody answers there, or what answers is no Ray of this version; after a minute at most.
    """

    def __init__(self, address: str, *, cores: int = 1) -> None:
        _check_answers(address)
        self._address, self._cores = address, cores
        self._task: Any = None
        self._parcels: dict[str, Any] = {}
        self._running: dict[Any, Block] = {}

    def room(self) -> int:
        """Return how many blocks the cluster has work for, two for each core, of the nodes that live.

        Raises:
            SweepError: The cluster is gone.
        """
        return max(1, _AHEAD * self._workers())

    def start(self, block: Block) -> None:
        """Hand a block to the cluster, with its bundle, which is sent once."""
        digest = bundle_digest(block.path)
        if digest not in self._parcels:
            self._parcels[digest] = ray.put(pack(block.path))
        self._running[self._task.remote(block, digest, self._parcels[digest])] = block

    def wait(self) -> tuple[Block, str | Lost]:
        """Wait for the next block to end; see :meth:`saccade.sim.sweeps.workers.Workers.wait`.

        Raises:
            SaccadeError: The block failed.
            SweepError: No node has had room for a block for two minutes, the cluster is gone, or the nodes cannot load
                saccade.
        """
        ready: list[Any] = []
        until = time.monotonic() + _BARE_TIMEOUT_S
        while not ready:
            with self._reached():
                ready, _ = ray.wait(list(self._running), num_returns=1, timeout=_LOOK_S)
            if self._workers():
                until = time.monotonic() + _BARE_TIMEOUT_S
            elif not ready and time.monotonic() > until:
                raise SweepError(
                    f"expected nodes with {self._cores} cores at {self._address}, found none for "
                    f"{_BARE_TIMEOUT_S:g} s: start one with `ray start`, and type the command again; it goes on."
                )
        block = self._running.pop(ready[0])
        try:
            return block, str(ray.get(ready[0]))
        except RayTaskError as error:
            if isinstance(error.cause, SaccadeError):
                raise failed(block, error.cause) from error
            raise SweepError(
                f"expected a node to run block {block.name}, found {error.cause!r}: install the same saccade, with "
                "the extra [cluster], on every node."
            ) from error
        except RayError as error:
            return block, Lost(f"Ray says {type(error).__name__}")

    def _workers(self) -> int:
        with self._reached():
            return int(ray.cluster_resources().get("CPU", 0)) // self._cores

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (RayError, ConnectionError) as error:
            raise SweepError(
                f"expected the cluster at {self._address} to answer, found {type(error).__name__}: start it, and type "
                "the command again; it goes on."
            ) from error

    def __enter__(self) -> RayCluster:
        ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR)
        # Retries are the sweep's, which tells of them.
        self._task = ray.remote(num_cpus=self._cores, max_retries=0)(_run_parcel)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reference in self._running:
            ray.cancel(reference, force=True)
        self._running.clear()
        self._parcels.clear()
        ray.shutdown()


def _run_parcel(block: Block, digest: str, parcel: Parcel) -> str:
    """Run a block on a node that has only what the parcel brings."""
    return run_block(replace(block, path=_UNPACKED.bundle(digest, parcel)))


def _check_answers(address: str) -> None:
    """Refuse an address before Ray tries it, which takes minutes and ends the process."""
    what_to_do = "start a cluster with `ray start --head`, and name the address that it prints"
    if address != _AUTO:
        asked = parse_address(address.removeprefix(_CLIENT))
        try:
            socket.create_connection((asked.host, asked.port), _CONNECT_TIMEOUT_S).close()
        except OSError as error:
            raise UnavailableError(
                f"expected a Ray cluster at {address}, found nobody who answers ({error}): {what_to_do}."
            ) from error
    trial = [sys.executable, "-c", _TRIAL, address]
    try:
        found = subprocess.run(trial, capture_output=True, text=True, timeout=_JOIN_TIMEOUT_S, check=False)  # noqa: S603 - our own words
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(
            f"expected a Ray cluster at {address}, found one that does not let this machine in within "
            f"{_JOIN_TIMEOUT_S:g} s: {what_to_do}."
        ) from error
    if found.returncode:
        last = (found.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
        raise UnavailableError(f"expected a Ray cluster at {address}, found {last}: {what_to_do}.")
