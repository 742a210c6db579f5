"""The client's side of ZeroMQ: one DEALER socket for calls, another for each stream."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import TypeVar

import zmq
from google.protobuf.message import Message

from saccade.proto.codec import MAX_MESSAGE_BYTES, decode, error_from_wire
from saccade.proto.errors import MessageError, UnavailableError
from saccade.proto.v1 import control_pb2 as wire

_OK = b"ok"
_END = b""
_REPLY_FRAMES = 3
_STREAM_SILENCE_MS = 10_000

Reply = TypeVar("Reply", bound=Message)


class ZmqTransport:
    """Calls the daemon at ``address`` (``host:port``)."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._context = zmq.Context()
        self._socket = self._connect()
        self._calls = 0

    def call(self, method: str, request: Message, reply: type[Reply], *, deadline_s: float) -> Reply:
        """Call ``method`` and return its reply.

        Raises:
            SaccadeError: What the daemon raised, or a :class:`TransportError`.
        """
        self._calls += 1
        request_id = str(self._calls).encode()
        self._socket.send_multipart([request_id, method.encode(), request.SerializeToString()])
        deadline = time.monotonic() + deadline_s
        while True:
            found, status, payload = self._receive(self._socket, deadline - time.monotonic(), deadline_s)
            if found == request_id:  # anything else answers a call that ran out of time
                return _result(status, payload, reply)

    def stream(self, requests: Iterator[wire.Observation]) -> Iterator[wire.StreamReply]:
        """Send ``requests`` as they come and yield one reply for each."""
        socket = self._connect()
        inbox = self._context.socket(zmq.PAIR)
        address = f"inproc://stream-{id(inbox)}"
        inbox.bind(address)
        feeder = threading.Thread(target=self._feed, args=(address, requests), daemon=True)
        feeder.start()
        try:
            yield from self._exchange(socket, inbox)
        finally:
            inbox.close()
            socket.close()

    def close(self) -> None:
        """Hang up."""
        self._context.destroy(linger=0)

    def _feed(self, address: str, requests: Iterator[wire.Observation]) -> None:
        """Read the caller's observations on their own thread, because their iterator may wait for a camera."""
        outbox = self._context.socket(zmq.PAIR)
        outbox.connect(address)
        with outbox:
            for request in requests:
                outbox.send(request.SerializeToString())
            outbox.send(_END)

    def _exchange(self, socket: zmq.Socket[bytes], inbox: zmq.Socket[bytes]) -> Iterator[wire.StreamReply]:
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(inbox, zmq.POLLIN)
        sent = answered = 0
        is_ended = False
        while not is_ended or answered < sent:
            ready = dict(poller.poll(_STREAM_SILENCE_MS if answered < sent else None))
            if not ready:
                raise self._nobody(_STREAM_SILENCE_MS / 1e3)
            if inbox in ready:
                payload = inbox.recv()
                is_ended = payload == _END
                if not is_ended:
                    sent += 1
                    socket.send_multipart([str(sent).encode(), b"Stream", payload])
            if socket in ready:
                _, status, payload = self._receive(socket, 0, 0)
                answered += 1
                yield _result(status, payload, wire.StreamReply)

    def _connect(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        socket.connect(f"tcp://{self._address}")
        return socket

    def _receive(self, socket: zmq.Socket[bytes], remaining_s: float, deadline_s: float) -> list[bytes]:
        if not socket.poll(max(0, round(remaining_s * 1e3))):
            raise self._nobody(deadline_s)
        frames = socket.recv_multipart()
        if len(frames) != _REPLY_FRAMES:
            raise MessageError(f"expected a reply of {_REPLY_FRAMES} frames, found {len(frames)}.")
        return frames

    def _nobody(self, deadline_s: float) -> UnavailableError:
        return UnavailableError(
            f"expected a saccade daemon at {self._address} to answer within {deadline_s} s, found silence: start it "
            f"with `saccade serve --zmq-bind {self._address}`."
        )


def _result(status: bytes, payload: bytes, reply: type[Reply]) -> Reply:
    if status != _OK:
        raise error_from_wire(decode(wire.Error, payload))
    return decode(reply, payload)
