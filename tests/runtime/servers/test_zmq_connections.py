"""Real sockets: whose message it was, and what is told when a connection breaks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from saccade.runtime.servers.zmq_connections import Connection, Connections


class Wire:
    """A ROUTER socket, what was told of its connections, and clients."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.abandoned: list[str] = []
        self.clients: list[zmq.Socket[bytes]] = []
        self.context = context
        self.router = context.socket(zmq.ROUTER)
        self.connections = Connections(self.router, self.abandoned.append)
        self.port = self.router.bind_to_random_port("tcp://127.0.0.1")

    def client(self) -> zmq.Socket[bytes]:
        dealer = self.context.socket(zmq.DEALER)
        dealer.connect(f"tcp://127.0.0.1:{self.port}")
        self.clients.append(dealer)
        return dealer

    def hear(self, dealer: zmq.Socket[bytes]) -> Connection:
        """Send something and say on which connection it came."""
        dealer.send(b"hello")
        assert self.router.poll(10_000)
        return self.connections.of(self.router.recv_multipart(copy=False)[0])

    def lose(self, dealer: zmq.Socket[bytes]) -> None:
        """Let a client vanish, and wait until that shows."""
        dealer.close(linger=0)
        assert self.connections.monitor.poll(10_000)
        self.connections.take()
        assert self.connections.has_events


@pytest.fixture
def wire() -> Iterator[Wire]:
    with zmq.Context() as context:
        wire = Wire(context)
        yield wire
        wire.connections.close()
        context.destroy(linger=0)


def test_who_vanished_is_told_once_every_message_was_read(wire: Wire) -> None:
    staying, leaving, silent = wire.client(), wire.client(), wire.client()
    wire.hear(staying).serves("staying")
    connection = wire.hear(leaving)
    assert wire.hear(leaving) is connection
    connection.serves("leaving")
    wire.hear(silent).serves("")
    wire.lose(leaving)
    assert wire.abandoned == []
    wire.connections.settle()
    assert wire.abandoned == ["leaving"] and not wire.connections.has_events
    wire.lose(silent)
    wire.connections.settle()
    assert wire.abandoned == ["leaving"]


def test_a_call_that_ends_after_its_client_vanished_is_told_too(wire: Wire) -> None:
    leaving = wire.client()
    connection = wire.hear(leaving)
    wire.lose(leaving)
    wire.connections.settle()
    connection.serves("opened meanwhile")
    assert wire.abandoned == ["opened meanwhile"]


def test_a_connection_whose_number_is_used_again_is_another(wire: Wire) -> None:
    first = wire.client()
    old = wire.hear(first)
    old.serves("old")
    wire.lose(first)
    new = wire.hear(wire.client())  # the system hands out the number that has become free, most often
    assert new is not old
    wire.connections.settle()
    again = wire.client()
    wire.hear(again).serves("new")
    assert wire.abandoned == ["old"]
