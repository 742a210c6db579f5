"""The contract of a transport: what moves messages from a client to the daemon and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from saccade.proto.v1 import control_pb2 as wire

Reply = TypeVar("Reply", bound=Message)


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

    def attend(self, token: str) -> None:
        """See to it that the daemon notices at once when this client is gone; costs nothing where it does already.

        Args:
            token: Token of the client's session.
        """
        ...

    def close(self) -> None:
        """Hang up."""
