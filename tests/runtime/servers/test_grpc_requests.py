"""Bytes that are no request are answered with the wire error, over both transports, and fill no log."""

import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
import zmq

from saccade.proto import errors
from saccade.proto.codec import GRPC_ERROR_METADATA, tensor_to_wire
from saccade.proto.v1 import control_pb2 as wire
from saccade.runtime.client import Client
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.servers.endpoint import Endpoint
from saccade.runtime.servers.grpc_server import GrpcServer
from saccade.runtime.servers.zmq_connections import Connections
from saccade.runtime.servers.zmq_server import ZmqServer
from saccade.runtime.session import Session
from saccade.runtime.transports.registry import TransportName
from saccade.runtime.transports.wire_format import observation_to_wire
from tests.tiny_bundle import tiny_observation

METHODS = {
    "Describe": "DescribeRequest",
    "Open": "OpenRequest",
    "Reset": "ResetRequest",
    "Act": "Observation",
    "Stop": "StopRequest",
    "Close": "CloseRequest",
    "Stream": "Observation",
    "Generate": "Question",
}
NO_MESSAGE = b"\xff\xff"
NO_UTF8 = b"\x0a\x02\xff\xfe"
TIMEOUT_S = 30
FLOOD, AT_ONCE = 5000, 20

Addresses = dict[TransportName, str]


@pytest.fixture
def endpoint(program: ProgramExecutor) -> Iterator[Endpoint]:
    """An endpoint whose clock stands still, so that a second never passes."""
    endpoint = Endpoint(program, max_age_ns=0, max_frozen_frames=0, clock=lambda: 1)
    yield endpoint
    endpoint.shut_down()


@pytest.fixture
def served(endpoint: Endpoint) -> Iterator[Addresses]:
    over_grpc, over_zmq = GrpcServer(endpoint, "127.0.0.1:0"), ZmqServer(endpoint, "127.0.0.1:0")
    over_grpc.start()
    over_zmq.start()
    yield {"grpc": over_grpc.address, "zmq": over_zmq.address}
    over_grpc.stop(grace_s=0)
    over_zmq.stop()


@pytest.fixture
def channel(served: Addresses) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served["grpc"]) as channel:
        yield channel


def send(channel: grpc.Channel, method: str, *messages: bytes) -> list[bytes]:
    """Send raw bytes to a method, written as in a path, and return the raw replies."""
    name = method.rpartition("/")[2]
    if name in {"Stream", "ServerReflectionInfo"}:
        return list(channel.stream_stream(method)(iter(messages), timeout=TIMEOUT_S))
    (message,) = messages
    if name in {"Generate", "Watch"}:
        return list(channel.unary_stream(method)(message, timeout=TIMEOUT_S))
    return [channel.unary_unary(method)(message, timeout=TIMEOUT_S)]


def refused(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str, wire.Error]:
    """Return status, details and wire error of a call that fails."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    metadata = dict(raised.value.trailing_metadata())
    return raised.value.code(), raised.value.details(), wire.Error.FromString(metadata[GRPC_ERROR_METADATA])


def drive(served: Addresses) -> None:
    """Do what a client does all day, over both transports."""
    for transport, address in served.items():
        with Client(address, transport=transport) as client, client.open() as session:
            session.reset("push")
            assert session.act(tiny_observation()).actions.shape
            assert len(list(session.stream([tiny_observation(sequence=2)]))) == 1


@pytest.mark.parametrize(
    ("transport", "method"),
    [
        *(("grpc", method) for method in METHODS),
        *(("zmq", method) for method in METHODS if method != "Generate"),
    ],
)
def test_what_does_not_parse_is_answered_alike_over_both_transports(
    served: Addresses,
    channel: grpc.Channel,
    caplog: pytest.LogCaptureFixture,
    transport: TransportName,
    method: str,
) -> None:
    expected = f"expected a serialised saccade.v1.{METHODS[method]}, found other bytes."
    if transport == "grpc":
        status, details, error = refused(lambda: send(channel, f"/saccade.v1.Control/{method}", NO_MESSAGE))
        assert (status, details) == (grpc.StatusCode.INVALID_ARGUMENT, expected)
    else:
        error = over_zmq(served["zmq"], method, NO_MESSAGE)
    assert (error.code, error.message) == (errors.MessageError.code, expected)
    assert [record.getMessage() for record in caplog.records] == [f"refused a message: {expected}"]
    assert caplog.records[0].exc_info is None
    drive(served)


def over_zmq(address: str, method: str, payload: bytes, times: int = 1) -> wire.Error:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"tcp://{address}")
        for _ in range(times):
            dealer.send_multipart([b"1", method.encode(), payload])
            assert dealer.poll(TIMEOUT_S * 1000)
            _, status, reply = dealer.recv_multipart()
            assert status == b"error"
    return wire.Error.FromString(reply)


def zmtp1(*parts: bytes) -> bytes:
    """A message as ZeroMQ 2 frames it, which needs no greeting: so may whatever else comes to the port be read."""
    return b"".join(bytes((1 + len(part), index < len(parts) - 1)) + part for index, part in enumerate(parts))


def test_a_message_in_an_old_protocol_of_zeromq_is_refused(served: Addresses, endpoint: Endpoint) -> None:
    host, _, port = served["zmq"].rpartition(":")
    with socket.create_connection((host, int(port)), TIMEOUT_S) as peer:
        peer.sendall(zmtp1(b"") + zmtp1(b"1", b"Describe", b"x"))
        heard = b""
        while b"older one" not in heard:
            block = peer.recv(1 << 10)
            assert block, heard
            heard += block
    assert b"error" in heard and endpoint.counters.snapshot()["errors.transport.message"] == 1
    drive(served)


def test_what_nobody_thought_of_costs_one_message_not_the_transport(
    served: Addresses, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"tcp://{served['zmq']}")
        with monkeypatch.context() as broken:
            broken.setattr(Connections, "of", lambda *_: 1 / 0)
            dealer.send_multipart([b"1", b"Describe", b""])
            assert not dealer.poll(500)
    assert [record.exc_info is not None for record in caplog.records] == [True]
    drive(served)


@pytest.mark.parametrize("method", ["Open", "Stream", "Generate"])
def test_text_that_is_no_utf8_does_not_parse(served: Addresses, channel: grpc.Channel, method: str) -> None:
    field = b"\x12\x02\xff\xfe" if method == "Open" else NO_UTF8
    status, _, error = refused(lambda: send(channel, f"/saccade.v1.Control/{method}", field))
    assert (status, error.code) == (grpc.StatusCode.INVALID_ARGUMENT, errors.MessageError.code)


@pytest.mark.parametrize("method", ["health.v1.Health/Check", "health.v1.Health/Watch"])
def test_other_services_refuse_alike(
    channel: grpc.Channel, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    status, details, error = refused(lambda: send(channel, f"/grpc.{method}", NO_MESSAGE))
    assert (status, error.code) == (grpc.StatusCode.INVALID_ARGUMENT, errors.MessageError.code)
    assert details == error.message == f"expected a serialised request of /grpc.{method}, found other bytes."
    assert "Traceback" not in caplog.text


def test_reflection_refuses_alike(channel: grpc.Channel, caplog: pytest.LogCaptureFixture) -> None:
    method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    status, _, error = refused(lambda: send(channel, method, NO_MESSAGE))
    assert (status, error.code) == (grpc.StatusCode.INVALID_ARGUMENT, errors.MessageError.code)
    assert "Traceback" not in caplog.text
    assert len(send(channel, method, b"\x3a\x00")) == 1  # list_services


def test_a_method_that_is_none_is_unimplemented(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        send(channel, "/saccade.v1.Control/Dance", NO_MESSAGE)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_stream_answers_what_came_before_and_ends_with_the_error(
    served: Addresses, channel: grpc.Channel, endpoint: Endpoint
) -> None:
    with Client(served["grpc"]) as client, client.open() as session:
        session.reset("push")
        good = observation_to_wire(tiny_observation(), token=session._token, profile="").SerializeToString()
        replies: list[wire.StreamReply] = []

        def stream() -> None:
            call = channel.stream_stream("/saccade.v1.Control/Stream")
            raw = call(iter([good, NO_MESSAGE, good]), timeout=TIMEOUT_S)
            replies.extend(wire.StreamReply.FromString(reply) for reply in raw)

        status, _, error = refused(stream)
        assert (status, error.code) == (grpc.StatusCode.INVALID_ARGUMENT, errors.MessageError.code)
        assert [reply.WhichOneof("reply") for reply in replies] == ["chunk"]
        assert len(list(session.stream([tiny_observation(sequence=2)]))) == 1
    assert "vanished" not in endpoint.counters.snapshot()


def test_a_flood_costs_one_entry(
    served: Addresses, channel: grpc.Channel, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """Through both transports, within what is one second to the daemon."""
    act = channel.unary_unary("/saccade.v1.Control/Act")
    for _ in range(FLOOD // AT_ONCE):
        calls = [act.future(NO_MESSAGE, timeout=TIMEOUT_S) for _ in range(AT_ONCE)]
        assert {call.code() for call in calls} == {grpc.StatusCode.INVALID_ARGUMENT}
    over_zmq(served["zmq"], "Act", NO_MESSAGE, times=100)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert len(caplog.text.splitlines()) == 1
    assert endpoint.counters.snapshot()["errors.transport.message"] == FLOOD + 100
    drive(served)


@pytest.mark.parametrize("transport", ["grpc", "zmq"])
def test_a_defect_costs_one_traceback(
    served: Addresses,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    transport: TransportName,
) -> None:
    """However often a message that parses runs into it."""

    def fail(*_args: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(Session, "step", fail)
    with Client(served[transport], transport=transport) as client, client.open() as session:
        session.reset("push")
        for sequence in range(1, 20):
            with pytest.raises(errors.InternalError, match="found ValueError: see the daemon's log"):
                session.act(tiny_observation(sequence=sequence))
    assert caplog.text.count("Traceback") == caplog.text.count("ValueError: a defect") == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_tensor_that_is_none_is_a_malformed_message_too(
    served: Addresses, channel: grpc.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    with Client(served["grpc"]) as client, client.open() as session:
        session.reset("push")
        request = observation_to_wire(tiny_observation(), token=session._token, profile="")
        request.proprio.CopyFrom(tensor_to_wire(tiny_observation().proprio))
        request.proprio.data = b"\0"
        whole = request.SerializeToString()
        status, details, error = refused(lambda: send(channel, "/saccade.v1.Control/Act", whole))
    assert (status, error.code) == (grpc.StatusCode.INVALID_ARGUMENT, errors.MessageError.code)
    assert [record.getMessage() for record in caplog.records] == [f"refused a message: {details}"]
