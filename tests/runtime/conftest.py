"""A real bundle, a real engine, a real daemon on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from saccade.runtime.bundle import Bundle
from saccade.runtime.client import Client
from saccade.runtime.daemon import Daemon, DaemonConfig
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.session import Session
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A fresh bundle that the test may damage."""
    return write_tiny_bundle(tmp_path / "tiny")


@pytest.fixture
def program(tiny: Path) -> Iterator[ProgramExecutor]:
    with OrtBackend(threads=1) as backend:
        yield ProgramExecutor(Bundle.open(tiny), backend)


@pytest.fixture
def session(program: ProgramExecutor) -> Iterator[Session]:
    with Session(program) as session:
        yield session


@pytest.fixture
def daemon(tiny: Path) -> Iterator[Daemon]:
    config = DaemonConfig(
        tiny, bind="127.0.0.1:0", zmq_bind="127.0.0.1:0", threads=1, max_age_ns=0, max_frozen_frames=0
    )  # the tests' frames are made up, and so are their times
    with Daemon(config) as daemon:
        yield daemon


@pytest.fixture(params=["grpc", "zmq"])
def client(daemon: Daemon, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client over each transport."""
    address = daemon.address if request.param == "grpc" else daemon.zmq_address
    assert address is not None
    with Client(address, transport=request.param, name="first client") as client:
        yield client
