"""ZeroMQ front of the endpoint: the framing is described at the end of ``proto/v1/control.proto``.

One thread owns the ROUTER socket. Calls that wait for the engine run on workers, so Stop is served at once; their
replies come back to the socket's thread through an in-process socket.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import zmq
from google.protobuf.message import Message

from saccade.proto.codec import decode, error_to_wire
from saccade.proto.errors import AddressInUseError, MessageError, SaccadeError, TransportError
from saccade.proto.v1 import control_pb2 as wire
from saccade.runtime.address import parse_address
from saccade.runtime.binding import RESOLVE_S
from saccade.runtime.servers.endpoint import Endpoint
from saccade.runtime.servers.zmq_connections import Connection, Connections
from saccade.runtime.transports.reach import resolve

OK = b"ok"
ERROR = b"error"
_WORKERS = 4
_MAX_REQUEST_ID_BYTES = 16
_PARTS = 4
_HEARTBEAT_MS = 5_000
"""As over gRPC, a client that lost power or network is noticed within ten seconds."""

Send = Callable[[bytes, Message], None]


class ZmqServer:
    """Serves an endpoint over ZeroMQ.

    Args:
        endpoint: What answers the calls.
        address: ``host:port`` to listen on; port 0 picks a free one.

    Raises:
        AddressInUseError: The port cannot be bound.

    Attributes:
        address: ``host:port`` that it listens on.
    """

    def __init__(self, endpoint: Endpoint, address: str) -> None:
        self._endpoint = endpoint
        self._methods = {name.encode(): method for name, method in endpoint.methods().items()}
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.LINGER, 0)
        self._router.setsockopt(zmq.MAXMSGSIZE, endpoint.max_message_bytes)
        self._router.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        self._router.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_MS)
        self._connections = Connections(self._router, endpoint.abandon)
        self._bind(address)
        self.address = self._router.getsockopt_string(zmq.LAST_ENDPOINT).removeprefix("tcp://")
        self._replies = self._context.socket(zmq.PULL)
        self._replies.setsockopt(zmq.RCVHWM, 0)  # the thread that empties it also fills it
        self._replies.bind("inproc://replies")
        self._outbox = self._context.socket(zmq.PUSH)
        self._outbox.setsockopt(zmq.SNDHWM, 0)
        self._outbox.connect("inproc://replies")
        self._outbox_lock = threading.Lock()
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="saccade-zmq")
        self._thread = threading.Thread(target=self._run, name="saccade-zmq-router", daemon=True)

    def start(self) -> None:
        """Serve, on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the calls that run, then stop answering."""
        self._workers.shutdown(wait=True)
        self._post([b""])
        self._thread.join()
        with self._outbox_lock:
            self._outbox.close()
        self._context.destroy(linger=0)

    def _bind(self, address: str) -> None:
        """Bind to the address of a host that ZeroMQ, which takes no names here, may listen on."""
        try:
            places = resolve(parse_address(address, may_pick=True), RESOLVE_S)
            place = next((place for place in places if not place.is_ipv6), places[0])
            self._router.setsockopt(zmq.IPV6, place.is_ipv6)
            self._router.bind(f"tcp://{place}")
        except (zmq.ZMQError, SaccadeError) as error:
            self._connections.close()
            self._context.destroy(linger=0)
            if isinstance(error, SaccadeError):
                raise
            raise AddressInUseError(f"expected to bind {address}, found: {error}.") from error

    def _run(self) -> None:
        poller = zmq.Poller()
        for source in (self._router, self._replies, self._connections.monitor):
            poller.register(source, zmq.POLLIN)
        while True:
            ready = dict(poller.poll(0 if self._connections.has_events else None))
            if self._replies in ready:
                parts = self._replies.recv_multipart()
                if parts == [b""]:
                    self._connections.close()
                    return
                self._router.send_multipart(parts)
            if self._connections.monitor in ready:
                self._connections.take()
            if self._router in ready:
                # What was ready may have gone with its sender: this thread waits nowhere but in the poll.
                with suppress(zmq.Again):
                    self._hear(self._router.recv_multipart(zmq.NOBLOCK, copy=False))
            elif self._connections.has_events:
                self._connections.settle()

    def _hear(self, frames: list[zmq.Frame]) -> None:
        """Receive a message; whatever one of them does, the others are heard, Stop above all."""
        try:
            self._receive(frames)
        except Exception as error:  # noqa: BLE001 - counted and logged
            self._endpoint.failure(error)

    def _receive(self, frames: list[zmq.Frame]) -> None:
        if len(frames) != _PARTS or not 1 <= len(frames[1]) <= _MAX_REQUEST_ID_BYTES:
            return  # without a request id there is nothing to answer to
        identity, request_id, method, payload = (frame.bytes for frame in frames)

        def send(status: bytes, message: Message) -> None:
            self._post([identity, request_id, status, message.SerializeToString()])

        try:
            connection = self._connections.of(frames[0])
        except MessageError as error:
            send(ERROR, error_to_wire(self._endpoint.failure(error)))
            return
        known = self._methods.get(method)
        if known is None or not known.waits:
            self._answer(method, payload, send, connection)
            return
        try:
            self._workers.submit(self._answer, method, payload, send, connection)
        except RuntimeError:
            return  # stopping: the client's deadline tells it

    def _answer(self, method: bytes, payload: bytes, send: Send, connection: Connection) -> None:
        try:
            if method == b"Stream":
                self._endpoint.submit(decode(wire.Observation, payload), partial(send, OK))
                return
            if method == b"Generate":
                raise TransportError(
                    "expected a transport that streams an answer, found ZeroMQ, which replies once to each request: "
                    "ask over gRPC."
                )
            if method not in self._methods:
                raise MessageError(f"expected a method of {sorted(self._methods)}, found {method!r:.40}.")
            known = self._methods[method]
            request = decode(known.request, payload)
            connection.serves(_token(request))
            reply = known.call(request)
            connection.serves(_token(request) or _token(reply))
            send(OK, reply)
        except Exception as error:  # noqa: BLE001 - mapped to a wire error
            send(ERROR, error_to_wire(self._endpoint.failure(error)))

    def _post(self, parts: list[bytes]) -> None:
        with self._outbox_lock:
            if not self._outbox.closed:  # a stream may finish its step after the server stopped
                self._outbox.send_multipart(parts)


def _token(message: Message) -> str:
    """Return the token of the session that a message is about; empty if it is about none."""
    return str(getattr(message, "session_token", ""))
