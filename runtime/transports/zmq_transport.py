"""The client's side of ZeroMQ: one DEALER socket for calls, another for each stream."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator

from google.protobuf.message import Message

from saccade.proto.codec import MAX_REPLY_BYTES, decode, error_from_wire
from saccade.proto.distribution import install_hint
from saccade.proto.errors import (
    DeadlineError,
    MessageError,
    ProtocolError,
    TransportError,
    UnavailableError,
)
from saccade.proto.v1 import control_pb2 as wire
from saccade.runtime.address import parse_address
from saccade.runtime.transports.base import Reply
from saccade.runtime.transports.reach import ZEROMQ, diagnose, locate
from saccade.runtime.transports.validity import Validity

try:
    import zmq
except ModuleNotFoundError as error:
    raise TransportError(
        f"expected pyzmq for the transport 'zmq', found it is not installed: {install_hint('zmq')}, or connect with "
        "transport='grpc'."
    ) from error

_OK = b"ok"
_ERROR = b"error"
_REPLY_PARTS = 3
_STREAM_SILENCE_S = 10.0
_STREAM_SEND_S = 1.0
"""How long an observation of a stream may wait for a daemon that has gone, seconds: in that time one is found again."""
_DIAGNOSIS_S = 0.5
"""How long a connection may take before it is asked who is there, and how long the answer may take, seconds."""


class ZmqTransport:
    """Calls the daemon at ``address`` (``host:port``).

    Raises:
        AddressError: ``address`` is not ``host:port``.
    """

    def __init__(self, address: str) -> None:
        self._address = parse_address(address)
        self._validity = Validity()
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._calls = 0
        self._has_answered = False

    def call(self, method: str, request: Message, reply: type[Reply], *, deadline_s: float) -> Reply:
        """Call a method of the daemon and return its reply, or raise what the daemon raised."""
        self._calls += 1
        request_id = str(self._calls).encode()
        deadline = time.monotonic() + deadline_s
        self._validity.check()
        if self._socket is None:
            self._socket = self._connect(deadline_s)
        try:
            parts = [request_id, method.encode(), request.SerializeToString()]
            self._send(self._socket, parts, deadline - time.monotonic())
            while True:
                found, status, payload = self._receive(self._socket, deadline - time.monotonic(), deadline_s)
                self._has_answered = True
                if found == request_id:  # anything else answers a call that failed before
                    return _result(status, payload, reply)
        except (UnavailableError, ProtocolError, DeadlineError) as error:
            self._socket.close()  # with it goes what it still had to send: nobody waits for that any more
            self._socket = None
            is_strange = isinstance(error, DeadlineError) and not self._has_answered
            cause = diagnose(self._address, ZEROMQ, _DIAGNOSIS_S) if is_strange else None
            raise cause or error from None

    def stream(self, requests: Iterator[wire.Observation]) -> Iterator[wire.StreamReply]:
        """Send observations as they come and yield one reply for each."""
        self._validity.check()
        dealer = self._connect(_DIAGNOSIS_S)
        inbox = _Inbox(requests)
        try:
            yield from self._exchange(dealer, inbox)
        finally:
            inbox.close()
            dealer.close()

    def generate(self, request: wire.Question, *, deadline_s: float) -> Iterator[wire.AnswerPiece]:
        """Refuse: the daemon replies once to each request.

        Raises:
            TransportError: Always.
        """
        del request, deadline_s
        raise TransportError(
            "expected a transport that streams an answer, found ZeroMQ, which replies once to each request: "
            "ask over gRPC, Client(address, transport='grpc')."
        )

    def attend(self, token: str) -> None:
        """Do nothing: the daemon sees the end of the connection that calls travel on."""

    def close(self) -> None:
        """Hang up."""
        if self._validity.close():
            self._context.destroy(linger=0)

    def _exchange(self, dealer: zmq.Socket[bytes], inbox: _Inbox) -> Iterator[wire.StreamReply]:
        poller = zmq.Poller()
        poller.register(dealer, zmq.POLLIN)
        poller.register(inbox.bell, zmq.POLLIN)
        sent = answered = 0
        while not inbox.is_ended or answered < sent:
            ready = dict(poller.poll(round(_STREAM_SILENCE_S * 1e3) if answered < sent else None))
            if not ready:  # busy, or gone with what it was sent
                cause = diagnose(self._address, ZEROMQ, _DIAGNOSIS_S)
                raise cause or self._silence(_STREAM_SILENCE_S)
            if inbox.bell.fileno() in ready:
                for payload in inbox.take():
                    sent += 1
                    self._send(dealer, [str(sent).encode(), b"Stream", payload], _STREAM_SEND_S)
            if dealer in ready:
                _, status, payload = self._receive(dealer, 0, 0)
                answered += 1
                yield _result(status, payload, wire.StreamReply)

    def _connect(self, timeout_s: float) -> zmq.Socket[bytes]:
        place = locate(self._address, ZEROMQ, timeout_s)
        dealer = self._context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.IMMEDIATE, 1)  # nothing is kept for a daemon that is not there
        dealer.setsockopt(zmq.MAXMSGSIZE, MAX_REPLY_BYTES)
        dealer.setsockopt(zmq.IPV6, place.is_ipv6)
        dealer.connect(f"tcp://{place}")
        return dealer

    def _send(self, dealer: zmq.Socket[bytes], parts: list[bytes], remaining_s: float) -> None:
        """Send as soon as the daemon is there; whoever is there instead is not waited for."""
        deadline = time.monotonic() + remaining_s
        first_s = min(remaining_s / 2, _DIAGNOSIS_S)
        if _sends(dealer, parts, first_s):
            return
        cause = diagnose(self._address, ZEROMQ, first_s)
        if isinstance(cause, ProtocolError) or not _sends(dealer, parts, deadline - time.monotonic()):
            raise cause or UnavailableError(
                f"expected a saccade daemon at {self._address}, found a server that takes no calls: give the "
                "address that `saccade serve --zmq-bind` names, or ask again if the daemon has only just come."
            )

    def _receive(self, dealer: zmq.Socket[bytes], remaining_s: float, deadline_s: float) -> list[bytes]:
        dealer.setsockopt(zmq.RCVTIMEO, _milliseconds(remaining_s))
        try:
            parts = dealer.recv_multipart()
        except zmq.Again:
            raise self._silence(deadline_s) from None
        if len(parts) != _REPLY_PARTS:
            raise MessageError(f"expected a reply of {_REPLY_PARTS} parts, found {len(parts)}.")
        return parts

    def _silence(self, deadline_s: float) -> DeadlineError:
        return DeadlineError(
            f"expected an answer from {self._address} within {deadline_s} s, found none: is the daemon overloaded?"
        )


def _sends(dealer: zmq.Socket[bytes], parts: list[bytes], timeout_s: float) -> bool:
    """Whether a message was taken in time.

    The call itself has the limit: a peer that a poll has just found may be gone before the message is handed over, and
    sending then waits without an end.
    """
    dealer.setsockopt(zmq.SNDTIMEO, _milliseconds(timeout_s))
    try:
        dealer.send_multipart(parts)
    except zmq.Again:
        return False
    return True


class _Inbox:
    """The caller's observations, read on a thread of their own, because their iterator may wait for a camera.

    Attributes:
        bell: Readable when there is something to take. A plain socket: those of ZeroMQ stay on one thread.
        is_ended: Everything was taken.
    """

    def __init__(self, requests: Iterator[wire.Observation]) -> None:
        self.is_ended = False
        self.bell, self._rope = socket.socketpair()
        self._items: queue.SimpleQueue[bytes | Exception | None] = queue.SimpleQueue()
        threading.Thread(target=self._feed, args=(requests,), name="saccade-feed", daemon=True).start()

    def take(self) -> Iterator[bytes]:
        """Yield the serialised observations that have come.

        Raises:
            Exception: Whatever the iterator raised.
        """
        for _ in self.bell.recv(1 << 12):  # one byte for each item
            item = self._items.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                self.is_ended = True
            else:
                yield item

    def close(self) -> None:
        """Let the thread end with its next observation."""
        self.bell.close()
        self._rope.close()

    def _feed(self, requests: Iterator[wire.Observation]) -> None:
        try:
            for request in requests:
                self._put(request.SerializeToString())
            self._put(None)
        except _Closed:
            return
        except Exception as error:  # noqa: BLE001 - raised again where the stream is read
            self._put_last(error)

    def _put(self, item: bytes | Exception | None) -> None:
        self._items.put(item)
        try:
            self._rope.sendall(b"\0")
        except OSError as error:
            raise _Closed from error

    def _put_last(self, error: Exception) -> None:
        try:
            self._put(error)
        except _Closed:
            return


class _Closed(Exception):  # noqa: N818 - no error: nobody reads any more
    """The stream was left."""


def _result(status: bytes, payload: bytes, reply: type[Reply]) -> Reply:
    if status == _OK:
        return decode(reply, payload)
    if status == _ERROR:
        raise error_from_wire(decode(wire.Error, payload))
    raise MessageError(
        f"expected a reply of a saccade daemon, 'ok' or 'error', found {status!r:.40}: give the address that "
        "`saccade serve --zmq-bind` names."
    )


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e3))
