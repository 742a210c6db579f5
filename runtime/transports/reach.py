"""Who is at an address: asked where a host has a name, and when a call did not get through.

Both transports ask here, so that both find the same hosts (a name is looked up as every program of the machine does,
``robot.local`` too) and tell the same causes apart: no such name, no way there, nobody listens, another protocol.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from typing import Any

from saccade.proto.errors import ProtocolError, TransportError, UnavailableError, UnknownHostError
from saccade.runtime.address import Address

GRPC, ZEROMQ = "gRPC", "ZeroMQ"

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
"""What opens an HTTP/2 connection, with empty settings: HTTP servers of every version answer it at once. A ZeroMQ
socket speaks first, and takes it for a peer of the oldest version."""
_ENOUGH_BYTES = 10
_SETTINGS = 4
"""Type of the first HTTP/2 frame."""
_OPENINGS = ((b"\xff", ZEROMQ), (b"HTTP/", "HTTP"), (b"<", "HTTP"), (b"\x15\x03", "TLS"), (b"SSH-", "SSH"))
_OTHER = "something else"
_REMEDY = {
    GRPC: "connect with transport='grpc', or give the address that `saccade serve --zmq-bind` names",
    ZEROMQ: "connect with transport='zmq', or give the address that `saccade serve --bind` names",
}
_SERVES = {GRPC: "saccade serve --bind", ZEROMQ: "saccade serve --zmq-bind"}


def resolve(address: Address, timeout_s: float) -> list[Address]:
    """Return the IP addresses of a host, in the order in which this machine prefers them.

    Args:
        address: Host and port; an IP address stands for itself, and nobody is asked.
        timeout_s: How long the answer may take, in seconds.

    Raises:
        UnknownHostError: No host of that name is known, or nobody said so in time.
    """
    if address.is_literal:
        return [address]
    answers: queue.SimpleQueue[list[Address] | OSError] = queue.SimpleQueue()

    def ask() -> None:  # on a thread, because a name server that is away is waited for without an end
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except OSError as error:
            answers.put(error)
        else:
            answers.put([_literal(sockaddr) for *_, sockaddr in found])

    threading.Thread(target=ask, name="saccade-resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        answer = OSError(0, f"no answer of the name server within {timeout_s:g} s")
    if isinstance(answer, OSError):
        raise UnknownHostError(
            f"expected a host named {address.host!r}, found none ({answer.strerror}): check the spelling and the name "
            "server, or give the IP address."
        )
    return answer


def locate(address: Address, speaks: str, timeout_s: float) -> Address:
    """Return the IP address at which somebody listens, for a host that has several or whose address may change.

    Args:
        address: Host and port; an IP address stands for itself, and nobody is asked.
        speaks: Protocol of the daemon, for the message.
        timeout_s: How long it may take, in seconds.

    Raises:
        UnknownHostError: No host of that name is known.
        UnavailableError: Nobody listens, or there is no way to the host.
    """
    if address.is_literal:
        return address
    connection, found = _connect(address, speaks, timeout_s)
    connection.close()
    return found


def diagnose(address: Address, speaks: str, timeout_s: float) -> TransportError | None:
    """Say why a call did not get through; None where what answers speaks the daemon's protocol.

    Args:
        address: Host and port of the daemon.
        speaks: The protocol that was spoken to it.
        timeout_s: How long it may take, in seconds.
    """
    until = time.monotonic() + timeout_s
    try:
        connection, _ = _connect(address, speaks, timeout_s)
    except UnavailableError as error:
        return error
    with connection:
        found = _protocol(connection, until)
    if found == speaks:
        return None
    if found is None:
        return UnavailableError(
            f"expected a saccade daemon at {address}, found a listener that says nothing: is it a daemon, and does its "
            "process run?"
        )
    return ProtocolError(
        f"expected a saccade daemon that speaks {speaks} at {address}, found a server that speaks {found}: "
        f"{_REMEDY.get(found, 'give the address of the daemon')}."
    )


def _connect(address: Address, speaks: str, timeout_s: float) -> tuple[socket.socket, Address]:
    """Connect to the first IP address of a host that accepts."""
    until = time.monotonic() + timeout_s
    failures: list[OSError] = []
    for place in resolve(address, timeout_s):
        try:
            remaining_s = max(until - time.monotonic(), 0.01)
            return socket.create_connection((place.host, place.port), remaining_s), place
        except OSError as error:  # noqa: PERF203 - a few addresses
            failures.append(error)
    raise _absence(address, speaks, failures)


def _absence(address: Address, speaks: str, failures: list[OSError]) -> UnavailableError:
    """Say what failed, by what is most telling where a host has several addresses."""
    expected = f"expected a saccade daemon at {address}, found"
    if any(isinstance(error, ConnectionRefusedError) for error in failures):
        return UnavailableError(
            f"{expected} nobody: start it with `{_SERVES[speaks]} {address}` (connection refused: the host is there, "
            "and nothing listens at that port)."
        )
    if any(isinstance(error, TimeoutError) for error in failures):
        return UnavailableError(
            f"{expected} silence: is that host switched on, and does a firewall let the port through?"
        )
    return UnavailableError(
        f"{expected} no way there ({failures[-1].strerror}): check the address and the network."
    )


def _protocol(connection: socket.socket, until: float) -> str | None:
    """Return the name of what is spoken at the other end; None if it says nothing."""
    heard = b""
    try:
        connection.sendall(_PREFACE)
        while len(heard) < _ENOUGH_BYTES:
            connection.settimeout(max(until - time.monotonic(), 0.01))
            block = connection.recv(1 << 10)
            if not block:
                break
            heard += block
    except OSError:
        pass  # what it said before counts
    if len(heard) > 3 and heard[3] == _SETTINGS and not heard.startswith(b"\xff"):
        return GRPC
    known = (name for opening, name in _OPENINGS if heard.startswith(opening))
    return next(known, _OTHER) if heard else None


def _literal(sockaddr: tuple[Any, ...]) -> Address:
    """Return the IP address that ``getaddrinfo`` found, with the zone of a link-local one."""
    host, port, *zone = sockaddr
    has_zone = len(zone) == 2 and zone[1] and "%" not in str(host)
    return Address(f"{host}%{zone[1]}" if has_zone else str(host), int(port))
