"""May the daemon listen there? Found out by listening there, for a moment, before anything is loaded."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack

from saccade.proto.errors import (
    AddressError,
    AddressInUseError,
    InsecureBindError,
    ServeError,
    UnknownHostError,
)
from saccade.runtime.address import parse_address
from saccade.runtime.transports.reach import resolve

RESOLVE_S = 5.0
"""How long the lookup of a host's name may take, seconds."""


def check_bind(*binds: str, is_insecure_allowed: bool) -> None:
    """Refuse addresses that the daemon cannot or may not listen on, before anything is loaded.

    Args:
        binds: The addresses, ``host:port``, each for a listener of its own.
        is_insecure_allowed: Whether addresses beyond loopback are permitted.

    Raises:
        ServeError: An address is not ``host:port``, is none of this machine's, or may not be used.
        InsecureBindError: An address is beyond loopback, and that is not permitted.
        AddressInUseError: A port is taken, or named twice.
    """
    with ExitStack() as held:
        for bind in binds:
            for probe in _probes(bind, is_insecure_allowed=is_insecure_allowed):
                held.enter_context(probe)


def _probes(bind: str, *, is_insecure_allowed: bool) -> Iterator[socket.socket]:
    """Bind a socket to each IP address of a host, and yield those that could be bound."""
    try:
        address = parse_address(bind, may_pick=True)
        if not is_insecure_allowed and not address.is_loopback:
            raise InsecureBindError(
                f"expected a loopback address such as 127.0.0.1, found {address.host}: nothing authenticates clients, "
                "so anyone on that network could drive the robot. Pass --insecure-bind to do it all the same."
            )
        places = resolve(address, RESOLVE_S)
    except (AddressError, UnknownHostError) as error:
        raise ServeError(error.message) from error
    failures: list[OSError] = []
    for place in places:
        probe = socket.socket(socket.AF_INET6 if place.is_ipv6 else socket.AF_INET, socket.SOCK_STREAM)
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((place.host, place.port))
            probe.listen()  # or two of ours could share the port
        except OSError as error:
            probe.close()
            if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                raise _bind_refusal(bind, error) from error
            failures.append(error)  # a name may stand for an address of IPv6 on a machine without
        else:
            yield probe
    if len(failures) == len(places):
        raise _bind_refusal(bind, failures[0])


def _bind_refusal(bind: str, error: OSError) -> ServeError:
    if error.errno == errno.EADDRINUSE:
        return AddressInUseError(
            f"expected to bind {bind}, found: {error.strerror}. Is another daemon running? "
            f"Stop it or choose another port."
        )
    remedy = {
        errno.EADDRNOTAVAIL: "it must be an address of this machine, see `ip address`",
        errno.EACCES: "choose a port from 1024 up",
    }.get(error.errno or 0, "choose another address")
    return ServeError(f"expected to bind {bind}, found: {error.strerror}; {remedy}.")
