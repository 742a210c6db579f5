"""gRPC front of the endpoint: moves messages, maps errors to statuses, serves health and reflection."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from typing import Any, NoReturn

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from saccade.proto import errors
from saccade.proto.codec import GRPC_ERROR_METADATA, GRPC_HTTP2_FRAMES, GRPC_KEEPALIVE, decode, error_to_wire
from saccade.proto.v1 import control_pb2 as wire
from saccade.runtime.servers.endpoint import Endpoint, Method, draining
from saccade.runtime.servers.grpc_requests import ParsedRequests
from saccade.runtime.transports.validity import claim_grpc

SERVICE = wire.DESCRIPTOR.services_by_name["Control"].full_name
_WORKERS = 16
_URGENT_WORKERS = 2
"""Workers that only serve calls that never wait, so that a Stop is served while every other worker waits for the engine
or holds a stream."""
_ASKING_WORKERS = 4
"""Workers that only serve questions, so that no number of these takes a worker from the robot."""
_VANISH_S = 0.2
"""How long after the last observation of a stream a broken connection may take to show; delays no reply."""
_serialise = methodcaller("SerializeToString")

_STATUS = (
    (errors.LeaseHeldError, grpc.StatusCode.ALREADY_EXISTS),
    (errors.SessionError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.VersionError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.UnknownProfileError, grpc.StatusCode.NOT_FOUND),
    (errors.AnswererBusyError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.MessageError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.ActionRefusedError, grpc.StatusCode.ABORTED),
    (errors.LateChunkError, grpc.StatusCode.ABORTED),
    (errors.DrainingError, grpc.StatusCode.UNAVAILABLE),
)
"""Statuses of errors, most specific first; any other error is INTERNAL."""


@dataclass(frozen=True)
class _End:
    """End of the observations of a stream.

    Args:
        observations: How many there were, each of which is answered.
        error: What ended the stream, if its client did not: bytes that are no observation, or a daemon that drains.
    """

    observations: int
    error: errors.SaccadeError | None


@dataclass
class _Count:
    """Observations of a stream so far."""

    observations: int = 0


class GrpcServer:
    """Serves an endpoint over gRPC.

    Args:
        endpoint: What answers the calls.
        address: ``host:port`` to listen on; port 0 picks a free one.

    Raises:
        AddressInUseError: The port cannot be bound.

    Attributes:
        address: ``host:port`` that it listens on.
    """

    def __init__(self, endpoint: Endpoint, address: str) -> None:
        claim_grpc()
        limit = endpoint.max_message_bytes
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="saccade-grpc")
        self._server = grpc.server(
            self._workers,
            interceptors=(ParsedRequests(partial(_refuse, endpoint)),),
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", limit),
                *GRPC_HTTP2_FRAMES,
                *GRPC_KEEPALIVE,
            ],
        )
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._urgent = ThreadPoolExecutor(_URGENT_WORKERS, thread_name_prefix="saccade-grpc-urgent")
        self._asking = ThreadPoolExecutor(_ASKING_WORKERS, thread_name_prefix="saccade-grpc-asking")
        self._server.add_generic_rpc_handlers((_handlers(endpoint, self._urgent, self._asking),))
        reflection.enable_server_reflection(
            (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise errors.AddressInUseError(f"expected to bind {address}, found: {error}.") from error
        self.address = f"{address.rpartition(':')[0]}:{port}"

    def start(self) -> None:
        """Serve, and say so in the health service."""
        self._server.start()
        for name in ("", SERVICE):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def stop(self, *, grace_s: float) -> None:
        """Report NOT_SERVING, refuse new calls, give running ones ``grace_s``, then cancel them."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace_s).wait()
        self._workers.shutdown()  # which grpc leaves to the garbage collector
        self._urgent.shutdown()
        self._asking.shutdown()


def _handlers(
    endpoint: Endpoint, urgent: ThreadPoolExecutor, asking: ThreadPoolExecutor
) -> grpc.GenericRpcHandler:
    handlers = {}
    for name, method in endpoint.methods().items():
        behaviour: Any = partial(_answer, endpoint, method)
        if not method.waits:
            behaviour.experimental_thread_pool = urgent  # grpc looks for this attribute
        handlers[name] = grpc.unary_unary_rpc_method_handler(
            behaviour, request_deserializer=partial(decode, method.request), response_serializer=_serialise
        )
    handlers["Stream"] = grpc.stream_stream_rpc_method_handler(
        partial(_stream, endpoint),
        request_deserializer=partial(decode, wire.Observation),
        response_serializer=_serialise,
    )
    answering: Any = partial(_generate, endpoint)
    answering.experimental_thread_pool = asking
    handlers["Generate"] = grpc.unary_stream_rpc_method_handler(
        answering, request_deserializer=partial(decode, wire.Question), response_serializer=_serialise
    )
    attending: Any = partial(_attend, endpoint)
    attending.experimental_thread_pool = urgent
    attending.experimental_non_blocking = (
        True  # holds no worker while the call stands, as Watch of grpc's health
    )
    handlers["Attend"] = grpc.unary_stream_rpc_method_handler(
        attending, request_deserializer=partial(decode, wire.AttendRequest), response_serializer=_serialise
    )
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


def _answer(endpoint: Endpoint, method: Method, request: Message, context: grpc.ServicerContext) -> Message:
    try:
        return method.call(request, is_wanted=context.is_active) if method.waits else method.call(request)
    except Exception as error:  # noqa: BLE001 - mapped to a status
        _refuse(endpoint, context, error)


def _generate(
    endpoint: Endpoint, request: wire.Question, context: grpc.ServicerContext
) -> Iterator[wire.AnswerPiece]:
    try:
        yield from endpoint.generate(request, when_gone=context.add_callback)
    except Exception as error:  # noqa: BLE001 - mapped to a status
        _refuse(endpoint, context, error)


def _attend(
    endpoint: Endpoint,
    request: wire.AttendRequest,
    context: grpc.ServicerContext,
    send: Callable[[wire.AttendReply | None], None],
) -> None:
    try:
        gone = endpoint.attend(request, end=partial(send, None))
    except Exception as error:  # noqa: BLE001 - mapped to a status
        _refuse(endpoint, context, error)
    if not context.add_callback(gone):
        gone()


def _stream(
    endpoint: Endpoint, observations: Iterator[wire.Observation], context: grpc.ServicerContext
) -> Iterator[wire.StreamReply]:
    """Answer each observation once: another thread reads them, this one waits for the replies.

    What came before the end is answered first, whatever ended the stream.
    """
    replies: queue.SimpleQueue[wire.StreamReply | _End] = queue.SimpleQueue()
    came = _Count()
    forget = endpoint.when_draining(lambda: replies.put(_End(came.observations, draining())))
    threading.Thread(target=_read, args=(endpoint, observations, replies, came, context), daemon=True).start()
    end: _End | None = None
    answered = 0
    try:
        while end is None or answered < end.observations:
            reply = replies.get()
            if isinstance(reply, _End):
                end = reply
            else:
                answered += 1
                yield reply
    finally:
        forget()
    if end.error is not None:
        _refuse(endpoint, context, end.error)


def _read(
    endpoint: Endpoint,
    observations: Iterator[wire.Observation],
    replies: queue.SimpleQueue[wire.StreamReply | _End],
    came: _Count,
    context: grpc.ServicerContext,
) -> None:
    """Submit what arrives; afterwards say how many replies there must be, and what came that does not parse.

    A client that vanishes shows as an exception, or first as a plain end of its observations and a moment later as
    the end of the call. A call whose last replies are still to come does not end by itself.
    """
    has_ended = threading.Event()
    if not context.add_callback(has_ended.set):
        has_ended.set()
    token = ""
    malformed = None
    try:
        for observation in observations:
            came.observations += 1
            token = observation.session_token
            endpoint.submit(observation, replies.put)
        has_vanished = has_ended.wait(_VANISH_S)
    except errors.MessageError as error:
        malformed, has_vanished = error, False
    except Exception:  # noqa: BLE001 - grpc raises bare Exception when the client vanishes
        has_vanished = True
    if has_vanished:
        endpoint.abandon(token)
    replies.put(_End(came.observations, malformed))


def _refuse(endpoint: Endpoint, context: grpc.ServicerContext, raised: Exception) -> NoReturn:
    error = endpoint.failure(raised)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
    context.set_trailing_metadata(((GRPC_ERROR_METADATA, error_to_wire(error).SerializeToString()),))
    context.abort(status, error.message)
    raise AssertionError("abort raises")  # which no type information says
