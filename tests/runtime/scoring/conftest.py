"""A robot that reads view scores, and a client of its daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from saccade.runtime.client import Client
from tests.runtime.scoring.robots import serving
from tests.tiny_bundle import TinyOptions, write_tiny_bundle
from tests.tiny_scorer import write_tiny_scorer


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    """A bundle whose policy reads view scores; no warm-up, so that they decide from the first step."""
    return write_tiny_bundle(tmp_path / "robot", options=TinyOptions(reads_scores=True), warmup_steps=0)


@pytest.fixture
def scorer(tmp_path: Path) -> Path:
    return write_tiny_scorer(tmp_path / "scorer")


@pytest.fixture(params=["grpc", "zmq"])
def client(robot: Path, scorer: Path, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of a daemon with a scorer, over each transport."""
    with serving(robot, scorer) as daemon:
        address = daemon.address if request.param == "grpc" else daemon.zmq_address
        with Client(str(address), transport=request.param) as client:
            yield client
