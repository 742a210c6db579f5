"""Every transport by name; loaded when asked for, so that a robot needs only one of the two libraries."""

from __future__ import annotations

from importlib import import_module
from typing import Literal

from saccade.proto.errors import InputError
from saccade.runtime.transports.base import Transport

TransportName = Literal["grpc", "zmq"]

_TRANSPORTS = {
    "grpc": ("saccade.runtime.transports.grpc_transport", "GrpcTransport"),
    "zmq": ("saccade.runtime.transports.zmq_transport", "ZmqTransport"),
}
"""Name to module and class."""


def connect(name: TransportName, address: str) -> Transport:
    """Return a transport to a daemon; nothing is sent yet.

    Args:
        name: Name of the transport.
        address: ``host:port`` of the daemon.

    Raises:
        InputError: No transport has that name.
        AddressError: ``address`` is not ``host:port``.
        TransportError: ZeroMQ is asked for and not installed; the error names the extra.
        ImportError: gRPC, which comes with every installation, is missing.
    """
    if name not in _TRANSPORTS:
        raise InputError(f"expected a transport of {', '.join(_TRANSPORTS)}, found {name!r}.")
    module, kind = _TRANSPORTS[name]
    transport: Transport = getattr(import_module(module), kind)(address)
    return transport
