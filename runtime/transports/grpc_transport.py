"""The client's side of gRPC."""

from __future__ import annotations

from collections.abc import Iterator

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
from saccade.proto.errors import DeadlineError, MessageError, SaccadeError, TransportError, UnavailableError
from saccade.proto.v1 import control_pb2 as wire
from saccade.proto.v1 import control_pb2_grpc
from saccade.runtime.transports.base import Reply


class GrpcTransport:
    """Calls the daemon at ``address`` (``host:port``)."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", MAX_REPLY_BYTES),
                ("grpc.enable_http_proxy", 0),
                *GRPC_HTTP2_FRAMES,
                *GRPC_KEEPALIVE,
            ],
        )
        self._stub = control_pb2_grpc.ControlStub(self._channel)  # type: ignore[no-untyped-call] # generated

    def call(self, method: str, request: Message, reply: type[Reply], *, deadline_s: float) -> Reply:
        """Call a method of the daemon and return its reply, or raise what the daemon raised."""
        try:
            result: Reply = getattr(self._stub, method)(request, timeout=deadline_s)
        except grpc.RpcError as error:
            raise self._translate(error, deadline_s) from error
        return result

    def stream(self, requests: Iterator[wire.Observation]) -> Iterator[wire.StreamReply]:
        """Send observations as they come and yield one reply for each."""
        failures: list[Exception] = []
        call = self._stub.Stream(_remembering(requests, failures))
        try:
            yield from call
        except grpc.RpcError as error:
            if failures:
                raise failures[0] from error
            raise self._translate(error, float("inf")) from error
        finally:
            call.cancel()

    def generate(self, request: wire.Question, *, deadline_s: float) -> Iterator[wire.AnswerPiece]:
        """Ask a question and yield the pieces of its answer; whoever leaves ends the generating."""
        pieces = 0
        call = self._stub.Generate(request, timeout=deadline_s)
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
            raise self._translate(error, deadline_s) from error
        finally:
            call.cancel()

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def _translate(self, error: grpc.RpcError, deadline_s: float) -> SaccadeError:
        for key, value in error.trailing_metadata() or ():
            if key == GRPC_ERROR_METADATA:
                return error_from_wire(decode(wire.Error, value))
        status, details = error.code(), error.details()
        if status is grpc.StatusCode.UNAVAILABLE:
            return UnavailableError(
                f"expected a saccade daemon at {self._address}, found nobody: start it with `saccade serve`."
            )
        if status is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineError(
                f"expected an answer within {deadline_s} s, found none: is the daemon overloaded?"
            )
        if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return MessageError(f"expected a message that the daemon accepts, found: {details}.")
        return TransportError(f"expected an answer from {self._address}, found {status}: {details}.")


def _remembering(
    requests: Iterator[wire.Observation], failures: list[Exception]
) -> Iterator[wire.Observation]:
    """Pass ``requests`` on; grpc reads them on its own thread and would swallow what they raise."""
    try:
        yield from requests
    except Exception as error:
        failures.append(error)
        raise
