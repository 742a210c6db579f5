"""The client's side of gRPC."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.message import Message

from saccade.proto.codec import (
    GRPC_ERROR_METADATA,
    GRPC_HTTP2_FRAMES,
    GRPC_KEEPALIVE,
    MAX_REPLY_BYTES,
    decode,
    error_from_wire,
)
from saccade.proto.errors import (
    DeadlineError,
    MessageError,
    ProtocolError,
    SaccadeError,
    TransportError,
    UnavailableError,
)
from saccade.proto.v1 import control_pb2 as wire
from saccade.proto.v1 import control_pb2_grpc
from saccade.runtime.address import Address, parse_address
from saccade.runtime.transports.base import Reply
from saccade.runtime.transports.reach import GRPC, diagnose, locate
from saccade.runtime.transports.validity import Validity, claim_grpc

_RECONNECT = (
    ("grpc.use_local_subchannel_pool", 1),  # another client's failures do not make this one wait
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 400),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # how long one attempt may take
)
"""Channel options: a daemon that is back is found within a second."""
_DIAGNOSIS_S = 0.5
"""How long it may take to find out why a call did not get through, seconds."""


class GrpcTransport:
    """Calls the daemon at ``address`` (``host:port``).

    Raises:
        AddressError: ``address`` is not ``host:port``.
        ForkError: The process is a fork of one that has used gRPC.
    """

    def __init__(self, address: str) -> None:
        self._address = parse_address(address)
        claim_grpc()
        self._validity = Validity()
        self._lock = threading.Lock()
        self._link: _Link | None = None
        self._has_answered = False
        self._attendance: tuple[str, Any] | None = None

    def call(self, method: str, request: Message, reply: type[Reply], *, deadline_s: float) -> Reply:
        """Call a method of the daemon and return its reply, or raise what the daemon raised."""
        until = time.monotonic() + deadline_s
        link = self._linked(deadline_s)
        try:
            result: Reply = getattr(link.stub, method)(request, timeout=max(until - time.monotonic(), 0))
        except grpc.RpcError as error:
            raise self._translate(error, link, deadline_s) from error
        self._has_answered = True
        return result

    def stream(self, requests: Iterator[wire.Observation]) -> Iterator[wire.StreamReply]:
        """Send observations as they come and yield one reply for each."""
        failures: list[Exception] = []
        link = self._linked(_DIAGNOSIS_S)
        call = link.stub.Stream(_remembering(requests, failures))
        try:
            yield from call
        except grpc.RpcError as error:
            if failures:
                raise failures[0] from error
            raise self._translate(error, link, float("inf")) from error
        finally:
            call.cancel()

    def generate(self, request: wire.Question, *, deadline_s: float) -> Iterator[wire.AnswerPiece]:
        """Ask a question and yield the pieces of its answer; whoever leaves ends the generating."""
        pieces = 0
        link = self._linked(deadline_s)
        call = link.stub.Generate(request, timeout=deadline_s)
        try:
            for piece in call:
                pieces += 1
                yield piece
        except grpc.RpcError as error:
            if pieces and error.code() is grpc.StatusCode.UNAVAILABLE and not error.trailing_metadata():
                raise UnavailableError(
                    f"expected the rest of an answer from {self._address}, found the daemon gone after {pieces} "
                    "tokens: what came is incomplete."
                ) from error
            raise self._translate(error, link, deadline_s) from error
        finally:
            call.cancel()

    def attend(self, token: str) -> None:
        """Hold a call open beside the session, whose end tells the daemon that this client has gone."""
        if self._attendance is not None and self._attendance[0] == token:
            call = self._attendance[1]
            is_unknown = not call.is_active() and call.code() is grpc.StatusCode.UNIMPLEMENTED
            if call.is_active() or is_unknown:  # unknown to a daemon older than this
                return
        if self._link is not None:
            self._attendance = (token, self._link.stub.Attend(wire.AttendRequest(session_token=token)))

    def close(self) -> None:
        """Hang up."""
        if self._validity.close() and self._link is not None:
            self._link.channel.close()

    def _linked(self, timeout_s: float) -> _Link:
        """Return the connection, which is made anew where a host's name may have come to mean another address."""
        self._validity.check()
        with self._lock:
            if self._link is None:
                self._link = _Link(locate(self._address, GRPC, timeout_s))
            return self._link

    def _drop(self, link: _Link) -> None:
        if self._address.is_literal:
            return
        with self._lock:
            if self._link is link:
                self._link = None  # not closed: a stream of another thread may be reading its end from it

    def _translate(self, error: grpc.RpcError, link: _Link, deadline_s: float) -> SaccadeError:
        for key, value in error.trailing_metadata() or ():
            if key == GRPC_ERROR_METADATA:
                self._has_answered = True
                return error_from_wire(decode(wire.Error, value))
        status, details = error.code(), error.details()
        if status is grpc.StatusCode.UNAVAILABLE:
            self._drop(link)
            return diagnose(self._address, GRPC, min(_DIAGNOSIS_S, deadline_s / 2)) or UnavailableError(
                f"expected an answer from {self._address}, found the connection broken: the daemon has gone, or has "
                "only just come; ask again."
            )
        if status is grpc.StatusCode.DEADLINE_EXCEEDED:
            never = None if self._has_answered else diagnose(self._address, GRPC, _DIAGNOSIS_S)
            return never or DeadlineError(
                f"expected an answer from {self._address} within {deadline_s} s, found none: is the daemon overloaded?"
            )
        if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return MessageError(f"expected a message that the daemon accepts, found: {details}.")
        if status is grpc.StatusCode.UNIMPLEMENTED:
            return ProtocolError(
                f"expected a saccade daemon at {self._address}, found a server that does not have this call "
                f"({details}): give the address of the daemon, or compare versions."
            )
        return TransportError(f"expected an answer from {self._address}, found {status}: {details}.")


class _Link:
    """One channel to an IP address, which connects itself again whenever it breaks."""

    def __init__(self, address: Address) -> None:
        scheme = "ipv6" if address.is_ipv6 else "ipv4"
        self.channel = grpc.insecure_channel(
            f"{scheme}:{str(address).replace('%', '%25')}",
            options=[
                ("grpc.max_receive_message_length", MAX_REPLY_BYTES),
                ("grpc.enable_http_proxy", 0),
                *GRPC_HTTP2_FRAMES,
                *GRPC_KEEPALIVE,
                *_RECONNECT,
            ],
        )
        self.stub = control_pb2_grpc.ControlStub(self.channel)  # type: ignore[no-untyped-call] # generated


def _remembering(
    requests: Iterator[wire.Observation], failures: list[Exception]
) -> Iterator[wire.Observation]:
    """Pass ``requests`` on; grpc reads them on its own thread and would swallow what they raise."""
    try:
        yield from requests
    except Exception as error:
        failures.append(error)
        raise
