"""The contract of a transport: what moves messages from a client to the daemon and back."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Literal, Protocol, TypeVar

from google.protobuf.message import Message

from saccade.proto.v1 import control_pb2 as wire

Reply = TypeVar("Reply", bound=Message)
TransportName = Literal["grpc", "zmq"]

_TRANSPORTS = {
    "grpc": ("saccade.runtime.transports.grpc_transport", "GrpcTransport"),
    "zmq": ("saccade.runtime.transports.zmq_transport", "ZmqTransport"),
}
"""Where each transport is; imported when asked for, so that a robot needs only one of the two libraries."""


class Transport(Protocol):
    """Moves messages to the daemon and back."""

    def call(self, method: str, request: Message, reply: type[Reply], *, deadline_s: float) -> Reply:
        """Call a method of the daemon and return its reply.

        Args:
            method: Name of the method, e.g. ``Describe``.
            request: The message that the method takes.
            reply: Type of the message that the method returns.
            deadline_s: How long the call may take, in seconds.

        Raises:
            SaccadeError: What the daemon raised, or a :class:`saccade.proto.errors.TransportError`.
        """
        ...

    def stream(self, requests: Iterator[wire.Observation]) -> Iterator[wire.StreamReply]:
        """Send observations as they come and yield one reply for each.

        Args:
            requests: Observations; read on a thread of the transport, so they may wait for a camera.

        Raises:
            Exception: Whatever ``requests`` raised.
            TransportError: The stream broke.
        """
        ...

    def generate(self, request: wire.Question, *, deadline_s: float) -> Iterator[wire.AnswerPiece]:
        """Ask a question and yield the pieces of its answer as they come; whoever leaves ends the generating.

        Args:
            request: The question.
            deadline_s: How long the whole answer may take, in seconds.

        Raises:
            SaccadeError: What the daemon raised, or a :class:`saccade.proto.errors.TransportError`.
        """
        ...

    def close(self) -> None:
        """Hang up."""


def connect(name: TransportName, address: str) -> Transport:
    """Return a transport to a daemon; nothing is sent yet.

    Args:
        name: Name of the transport.
        address: ``host:port`` of the daemon.

    Raises:
        ImportError: The library of that transport is not installed.
    """
    module, kind = _TRANSPORTS[name]
    transport: Transport = getattr(import_module(module), kind)(address)
    return transport
