"""A transport is found by its name, and its library imported only then."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

from saccade.proto.errors import InputError, UnavailableError
from saccade.proto.v1 import control_pb2 as wire
from saccade.runtime.transports.registry import TransportName, connect


@pytest.mark.parametrize("name", get_args(TransportName))
def test_every_transport_says_that_nobody_is_there(name: TransportName) -> None:
    transport = connect(name, "127.0.0.1:9")
    with pytest.raises(UnavailableError, match=r"a saccade daemon at 127\.0\.0\.1:9, found nobody: start it"):
        transport.call("Describe", wire.DescribeRequest(), wire.DescribeReply, deadline_s=0.5)
    transport.close()


def test_another_transport_is_refused() -> None:
    with pytest.raises(InputError, match="expected a transport of grpc, zmq, found 'http'"):
        connect("http", "127.0.0.1:9")  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "library", "other"), [("grpc", "grpc", "zmq"), ("zmq", "zmq", "grpc")])
def test_a_robot_needs_the_library_of_its_transport_only(name: str, library: str, other: str) -> None:
    """In a program of its own: where one of the two libraries is missing, the client loads and the other works."""
    program = f"""
import sys
sys.modules[{other!r}] = None
from saccade.proto.errors import TransportError
from saccade.runtime.client import Client
assert {library!r} not in sys.modules
Client("127.0.0.1:9", transport={name!r}).close()
try:
    Client("127.0.0.1:9", transport={other!r})
except (ImportError, TransportError) as error:  # gRPC is always installed, ZeroMQ is an extra that the error names
    assert {other!r} in str(error), error
else:
    raise SystemExit("expected an error")
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
