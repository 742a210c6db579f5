"""Why a call did not get through: told apart, alike over both transports, with real listeners."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import get_args

import pytest
import zmq

from saccade.proto import errors
from saccade.proto.v1 import control_pb2 as wire
from saccade.runtime.client import Client
from saccade.runtime.daemon import Daemon, DaemonConfig
from saccade.runtime.transports.registry import TransportName, connect

TRANSPORTS = get_args(TransportName)


def failure(transport: TransportName, address: str, deadline_s: float = 1.0) -> errors.SaccadeError:
    """Call somebody who is no daemon of that transport."""
    peer = connect(transport, address)
    with pytest.raises(errors.SaccadeError) as caught:
        peer.call("Describe", wire.DescribeRequest(), wire.DescribeReply, deadline_s=deadline_s)
    peer.close()
    return caught.value


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_host_that_nobody_knows(transport: TransportName) -> None:
    error = failure(transport, "no-such-host.invalid:7447")
    assert isinstance(error, errors.UnknownHostError)
    assert error.message.startswith("expected a host named 'no-such-host.invalid', found none (")


@contextmanager
def web_server(version: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = version

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def talker(opening: bytes) -> Iterator[str]:
    """A listener that says one thing to whoever comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as accepted:

        def talk() -> None:
            while True:
                try:
                    connection = accepted.enter_context(listener.accept()[0])
                except OSError:  # the end of the test
                    return
                if opening:
                    connection.sendall(opening)

        thread = threading.Thread(target=talk)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("server", "kind", "found"),
    [
        (lambda: web_server("HTTP/1.1"), errors.ProtocolError, "a server that speaks HTTP: give the address"),
        (lambda: talker(b"SSH-2.0-OpenSSH_9.2\r\n"), errors.ProtocolError, "a server that speaks SSH"),
        (lambda: talker(b"220 mail ESMTP\r\n"), errors.ProtocolError, "a server that speaks something else"),
        (lambda: talker(b""), errors.UnavailableError, "a listener that says nothing"),
    ],
)
def test_another_server_is_not_taken_for_a_daemon(
    transport: TransportName,
    server: Callable[[], contextmanager[str]],  # type: ignore[valid-type]
    kind: type[errors.SaccadeError],
    found: str,
) -> None:
    with server() as address:  # type: ignore[attr-defined]
        error = failure(transport, address)
    assert type(error) is kind, error
    assert found in error.message


def test_the_transport_of_the_other_port_is_named(daemon: Daemon) -> None:
    assert daemon.zmq_address is not None
    over_grpc, over_zmq = failure("grpc", daemon.zmq_address), failure("zmq", daemon.address)
    assert isinstance(over_grpc, errors.ProtocolError) and isinstance(over_zmq, errors.ProtocolError)
    assert "found a server that speaks ZeroMQ: connect with transport='zmq'" in over_grpc.message
    assert "found a server that speaks gRPC: connect with transport='grpc'" in over_zmq.message
    with Client(daemon.address) as client, Client(daemon.zmq_address, transport="zmq") as other:
        assert client.describe().is_ready and other.describe().is_ready, "the daemon takes no harm"


def test_a_server_of_another_protocol_never_holds_a_call(daemon: Daemon) -> None:
    """It hangs up on ZeroMQ at any moment, between finding it and sending to it too."""
    for _ in range(25):
        assert isinstance(failure("zmq", daemon.address, deadline_s=0.1), errors.TransportError)


def test_a_zeromq_socket_that_answers_nobody() -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as socket_of_another_kind:
        port = socket_of_another_kind.bind_to_random_port("tcp://127.0.0.1")
        assert "found a server that takes no calls" in failure("zmq", f"127.0.0.1:{port}").message


def test_a_zeromq_socket_that_echoes_is_no_daemon() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as echo:
        port = echo.bind_to_random_port("tcp://127.0.0.1")
        thread = threading.Thread(target=lambda: echo.send_multipart(echo.recv_multipart()))
        thread.start()
        error = failure("zmq", f"127.0.0.1:{port}")
        thread.join()
    assert type(error) is errors.MessageError, repr(error)
    assert "expected a reply of a saccade daemon, 'ok' or 'error', found b'Describe'" in error.message


@pytest.mark.parametrize(
    ("transport", "ended"),
    [
        ("grpc", errors.DrainingError),
        ("zmq", errors.UnavailableError),
    ],
)
def test_a_stream_hears_that_its_daemon_ends(
    tiny: Path, transport: TransportName, ended: type[errors.SaccadeError]
) -> None:
    """Over gRPC it is told; over ZeroMQ, which has no streams, the next observation finds nobody."""
    with Daemon(DaemonConfig(tiny, bind="127.0.0.1:0", zmq_bind="127.0.0.1:0", threads=1)) as daemon:
        peer = connect(transport, str(daemon.address if transport == "grpc" else daemon.zmq_address))
        has_gone = threading.Event()

        def observations() -> Iterator[wire.Observation]:
            yield wire.Observation(sequence=1)
            assert has_gone.wait(30)
            yield wire.Observation(sequence=2)

        answers = peer.stream(observations())
        assert next(answers).error.code == errors.NoSessionError.code
    has_gone.set()
    with pytest.raises(ended):
        next(answers)
    peer.close()


@pytest.mark.parametrize("host", ["[::1]", "localhost"])
def test_a_daemon_is_reached_by_name_and_over_ipv6(tiny: Path, host: str) -> None:
    if not _has_ipv6() and host == "[::1]":
        pytest.skip("no IPv6 on this machine")
    config = DaemonConfig(tiny, bind=f"{host}:0", zmq_bind=f"{host}:0", threads=1)
    with Daemon(config) as daemon:
        for transport, address in (("grpc", daemon.address), ("zmq", daemon.zmq_address)):
            port = str(address).rpartition(":")[2]
            with Client(f"{host}:{port}", transport=transport) as client, client.open() as session:  # type: ignore[arg-type]
                session.reset("push")


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
