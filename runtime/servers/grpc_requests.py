"""Requests over gRPC that do not parse are answered like any other request that is refused.

Grpc itself answers what a deserializer raises with INTERNAL and writes a traceback for each, so here no deserializer
raises. An interceptor does it, because the services for health and reflection bring deserializers of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from saccade.proto.errors import MessageError

Refuse = Callable[[grpc.ServicerContext, MessageError], NoReturn]
"""Ends a call with the status of an error."""
Parse = Callable[[bytes], Any]


class ParsedRequests(grpc.ServerInterceptor):  # type: ignore[misc] # grpc is untyped
    """Refuses what does not parse, in every service of a server.

    Args:
        refuse: Ends the call with the status of an error.
    """

    def __init__(self, refuse: Refuse) -> None:
        self._refuse = refuse

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Return the handler of a call with a deserializer that never raises."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        codec = {
            "request_deserializer": _never_raising(handler.request_deserializer, handler_call_details.method),
            "response_serializer": handler.response_serializer,
        }
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(self._each(handler.stream_stream), **codec)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._one(handler.unary_stream), **codec)
        return grpc.unary_unary_rpc_method_handler(self._one(handler.unary_unary), **codec)

    def _one(self, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(behaviour)  # with the thread pool that hangs on it
        def checked(request: Any, context: grpc.ServicerContext, *rest: Any) -> Any:
            if isinstance(request, MessageError):
                self._refuse(context, request)
            return behaviour(request, context, *rest)

        return checked

    def _each(self, behaviour: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        @wraps(behaviour)
        def checked(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            try:
                yield from behaviour(_parsed(requests), context)
            except MessageError as error:
                self._refuse(context, error)

        return checked


def _never_raising(parse: Parse, method: str) -> Parse:
    def parsed(data: bytes) -> Any:
        try:
            return parse(data)
        except MessageError as error:
            return error
        except (DecodeError, UnicodeDecodeError):
            return MessageError(f"expected a serialised request of {method}, found other bytes.")

    return parsed


def _parsed(requests: Iterator[Any]) -> Iterator[Any]:
    """Pass requests on until one did not parse, and raise its error."""
    for request in requests:
        if isinstance(request, MessageError):
            raise request
        yield request
