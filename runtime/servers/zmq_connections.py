"""Which client a ZeroMQ message comes from, and when that client's connection breaks.

A ROUTER socket tells neither. The descriptor of the connection that a message came on and the events of a socket's
monitor do. Descriptors are numbers that are used again, so a connection is known by its routing id, and an event counts
only once every message from before it was read.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import zmq
from zmq.utils.monitor import recv_monitor_message

from saccade.proto.errors import MessageError


class Connection:
    """One client's connection. Safe between threads.

    Args:
        descriptor: Descriptor of its socket.
        abandon: Takes the token of a session whose client may have vanished.
    """

    def __init__(self, descriptor: int, abandon: Callable[[str], None]) -> None:
        self.descriptor = descriptor
        self._abandon = abandon
        self._token = ""
        self._is_broken = False
        self._lock = Lock()

    def serves(self, token: str) -> None:
        """Note that the connection carries a call of a session; told before the call and after it.

        Args:
            token: Token of the session; empty for a call that needs none.
        """
        with self._lock:
            self._token = token or self._token
            is_broken = self._is_broken
        if is_broken and token:
            self._abandon(token)

    def broke(self) -> None:
        """Note that nothing more will come."""
        with self._lock:
            self._is_broken = True
            token = self._token
        if token:
            self._abandon(token)


class Connections:
    """The connections of a ROUTER socket; used on the socket's thread.

    Args:
        router: The socket, before it is bound.
        abandon: Takes the token of a session whose client may have vanished.

    Attributes:
        monitor: Readable when there is an event to :meth:`take`.
        has_events: Whether there are events to :meth:`settle`.
    """

    def __init__(self, router: zmq.Socket[bytes], abandon: Callable[[str], None]) -> None:
        self.monitor = router.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._router = router
        self._abandon = abandon
        self._known: dict[bytes, Connection] = {}
        self._broken: list[int] = []

    @property
    def has_events(self) -> bool:
        """Whether a connection broke that was not told yet."""
        return bool(self._broken)

    def of(self, identity: zmq.Frame) -> Connection:
        """Return the connection that a message came on.

        Args:
            identity: First part of the message.

        Raises:
            MessageError: It came in ZeroMQ's oldest protocols, or in what looks like them, which tell no descriptor.
        """
        try:
            descriptor = int(identity.get(zmq.SRCFD))
        except zmq.ZMQError as error:
            raise MessageError(
                "expected a client of ZeroMQ 4 or newer, whose end can be seen, found an older one: renew its library."
            ) from error
        connection = self._known.get(identity.bytes)
        if connection is None or connection.descriptor != descriptor:
            connection = self._known[identity.bytes] = Connection(descriptor, self._abandon)
        return connection

    def take(self) -> None:
        """Take one event; what it means waits until the messages from before it are read."""
        event = recv_monitor_message(self.monitor)
        if event["event"] == zmq.EVENT_DISCONNECTED:
            self._broken.append(int(event["value"]))

    def settle(self) -> None:
        """Tell the connections that broke; called when no message waits."""
        for identity, connection in list(self._known.items()):
            if connection.descriptor in self._broken:
                del self._known[identity]
                connection.broke()
        self._broken.clear()

    def close(self) -> None:
        """Stop looking."""
        self._router.disable_monitor()
