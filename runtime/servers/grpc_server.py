"""gRPC front of the endpoint: moves messages, maps errors to statuses, serves health and reflection."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from saccade.proto import errors
from saccade.proto.codec import error_to_wire
from saccade.proto.v1 import control_pb2 as wire
from saccade.proto.v1 import control_pb2_grpc
from saccade.runtime.servers.endpoint import Endpoint

ERROR_METADATA = "saccade-error-bin"
SERVICE = wire.DESCRIPTOR.services_by_name["Control"].full_name
_WORKERS = 16

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)

_STATUS = (
    (errors.LeaseHeldError, grpc.StatusCode.ALREADY_EXISTS),
    (errors.SessionError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.VersionError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.UnknownProfileError, grpc.StatusCode.NOT_FOUND),
    (errors.InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.MessageError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.ActionRefusedError, grpc.StatusCode.ABORTED),
)
"""Most specific first; anything else is INTERNAL."""


class GrpcServer:
    """Serves an endpoint over gRPC.

    Args:
        endpoint: What answers.
        address: ``host:port``; port 0 picks a free one.

    Raises:
        AddressInUseError: The port cannot be bound.

    Attributes:
        address: Where it listens.
    """

    def __init__(self, endpoint: Endpoint, address: str) -> None:
        limit = endpoint.max_message_bytes
        self._server = grpc.server(
            ThreadPoolExecutor(_WORKERS, thread_name_prefix="saccade-grpc"),
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", limit),
            ],
        )
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        control_pb2_grpc.add_ControlServicer_to_server(_Servicer(endpoint), self._server)
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


class _Servicer(control_pb2_grpc.ControlServicer):
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def Describe(self, request: wire.DescribeRequest, context: grpc.ServicerContext) -> wire.DescribeReply:
        return self._answer(self._endpoint.describe, request, context)

    def Open(self, request: wire.OpenRequest, context: grpc.ServicerContext) -> wire.OpenReply:
        return self._answer(self._endpoint.open, request, context)

    def Reset(self, request: wire.ResetRequest, context: grpc.ServicerContext) -> wire.ResetReply:
        return self._answer(self._endpoint.reset, request, context)

    def Act(self, request: wire.Observation, context: grpc.ServicerContext) -> wire.ActionChunk:
        return self._answer(self._endpoint.act, request, context)

    def Stop(self, request: wire.StopRequest, context: grpc.ServicerContext) -> wire.StopReply:
        return self._answer(self._endpoint.stop, request, context)

    def Close(self, request: wire.CloseRequest, context: grpc.ServicerContext) -> wire.CloseReply:
        return self._answer(self._endpoint.close, request, context)

    def Stream(
        self, observations: Iterator[wire.Observation], context: grpc.ServicerContext
    ) -> Iterator[wire.StreamReply]:
        replies: queue.SimpleQueue[wire.StreamReply | int] = queue.SimpleQueue()
        reader = threading.Thread(target=self._read, args=(observations, replies), daemon=True)
        reader.start()
        expected: float = float("inf")
        answered = 0
        while answered < expected:
            reply = replies.get()
            if isinstance(reply, int):
                expected = reply
            else:
                answered += 1
                yield reply

    def _read(
        self,
        observations: Iterator[wire.Observation],
        replies: queue.SimpleQueue[wire.StreamReply | int],
    ) -> None:
        """Submit what arrives; afterwards tell the writer how many replies there must be."""
        count = 0
        token = ""
        try:
            for count, observation in enumerate(observations, start=1):  # noqa: B007 - used below
                token = observation.session_token
                self._endpoint.submit(observation, replies.put)
        except Exception:  # noqa: BLE001 - grpc raises bare Exception when the client vanishes
            self._endpoint.abandon(token)
        replies.put(count)

    def _answer(
        self, method: Callable[[Request], Reply], request: Request, context: grpc.ServicerContext
    ) -> Reply:
        try:
            return method(request)
        except Exception as error:  # noqa: BLE001 - mapped to a status
            _abort(context, self._endpoint.failure(error))


def _abort(context: grpc.ServicerContext, error: errors.SaccadeError) -> NoReturn:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
    context.set_trailing_metadata(((ERROR_METADATA, error_to_wire(error).SerializeToString()),))
    context.abort(status, error.message)
    raise AssertionError("abort raises")
