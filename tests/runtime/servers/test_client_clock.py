"""Times of a client on another host, over both transports: its clock is said to be another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from saccade.proto import errors
from saccade.proto.v1 import control_pb2 as wire
from saccade.runtime import daemon_clock
from saccade.runtime.client import Client
from saccade.runtime.clock import monotonic_ns
from saccade.runtime.daemon import Daemon, DaemonConfig
from saccade.runtime.observation import ActionChunk, Observation
from saccade.runtime.servers.client_clock import on_clients_clock, our_capture_ns
from saccade.runtime.servers.lease import Owner
from tests.tiny_bundle import tiny_observation

SECOND = 1_000_000_000
AHEAD_NS = 5_000 * SECOND
"""How far the client's clock is ahead."""


def far_clock_ns() -> int:
    return monotonic_ns() + AHEAD_NS


@pytest.fixture
def daemon(tiny: Path) -> Iterator[Daemon]:
    config = DaemonConfig(
        tiny,
        bind="127.0.0.1:0",
        zmq_bind="127.0.0.1:0",
        threads=1,
        max_age_ns=20 * SECOND,
        max_frozen_frames=0,
    )
    with Daemon(config) as daemon:
        yield daemon


@pytest.fixture
def far(client: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    for module in ("saccade.runtime.client", "saccade.runtime.daemon_clock"):
        monkeypatch.setattr(f"{module}.monotonic_ns", far_clock_ns)
    monkeypatch.setattr("saccade.runtime.client.clock_id", lambda: "another host")
    return client


def seen(sequence: int, age_ns: int = 0) -> Observation:
    return tiny_observation(sequence, sequence=sequence, captured_ns=far_clock_ns() - age_ns)


def test_the_offset_is_learnt_reported_and_used(far: Client) -> None:
    with far.open() as session:
        session.reset("push the red cube")
        assert session.clock is None
        first = session.act(seen(1))
        assert first.valid_from_ns == first.captured_ns
        assert first.expires_ns == first.captured_ns + 3 * SECOND // 20, (
            "three rows at 20 Hz, on the client's clock"
        )
        clock = session.clock
        assert clock is not None and clock.steps == 0
        assert abs(clock.offset_ns + AHEAD_NS) <= clock.uncertainty_ns
        assert far.describe().owner_clock is None, "told with the next observation"
        session.act(seen(2))
        told = far.describe().owner_clock
        assert told is not None and abs(told.offset_ns + AHEAD_NS) <= told.uncertainty_ns
        # Asked past the client's own check: the daemon counts the age on its clock now, not from arrival.
        old = session._pack(seen(3, age_ns=30 * SECOND), None)
        with pytest.raises(errors.StaleObservationError, match=r"found 30\d\d\d\.\d ms"):
            session._transport.call("Act", old, wire.ActionChunk, deadline_s=10)
    assert far.describe().owner_clock is None


def test_a_clock_that_jumps_is_noticed(far: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with far.open() as session:
        session.reset("push the red cube")
        for sequence in (1, 2):
            session.act(seen(sequence))
        monkeypatch.setattr(daemon_clock, "monotonic_ns", lambda: far_clock_ns() + 90 * SECOND)
        session.act(seen(3))
        clock = session.clock
        assert clock is not None and clock.steps == 1
        assert abs(clock.offset_ns + AHEAD_NS + 90 * SECOND) <= clock.uncertainty_ns


def test_a_stream_measures_too(far: Client) -> None:
    with far.open() as session:
        session.reset("push the red cube")
        answers = list(session.stream(seen(sequence) for sequence in (1, 2)))
        assert any(isinstance(answer, ActionChunk) for answer in answers)
        clock = session.clock
        assert clock is not None and abs(clock.offset_ns + AHEAD_NS) <= clock.uncertainty_ns


def test_nothing_was_captured_after_it_arrived() -> None:
    owner = Owner("", "", None, has_our_clock=False, expires_ns=0)  # type: ignore[arg-type]
    seen_there = wire.Observation(captured_monotonic_ns=700)
    assert our_capture_ns(seen_there, owner, 100) == 100, "nothing was measured: it counts from arrival"
    for offset_ns, expected in ((-650, 50), (-500, 100)):
        seen_there.clock.offset_ns = offset_ns
        assert our_capture_ns(seen_there, owner, 100) == expected
    assert our_capture_ns(seen_there, replace(owner, has_our_clock=True), 100) == 700


def test_a_chunk_goes_back_on_the_clock_that_it_came_from() -> None:
    chunk = ActionChunk(None, "full", 0, 1, 50, valid_from_ns=50, expires_ns=80)  # type: ignore[arg-type]
    found = on_clients_clock(chunk, 700)
    assert (found.captured_ns, found.valid_from_ns, found.expires_ns) == (700, 700, 730)
