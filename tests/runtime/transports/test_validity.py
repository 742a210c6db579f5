"""A client in a fork, and after it was closed: in a program of its own, whose fork has no threads of pytest."""

import subprocess
import sys

import pytest

from saccade.proto.errors import TransportError
from saccade.runtime.client import Client
from saccade.runtime.daemon import Daemon
from saccade.runtime.transports.registry import TransportName

FORKING_CLIENT = """
import os, sys
from saccade.proto.errors import ForkError
from saccade.runtime.client import Client

address, transport = sys.argv[1:]
client = Client(address, transport=transport)
session = client.open()
session.reset("push")
child = os.fork()
if child == 0:
    for use in (client.describe, session.close, lambda: session.reset("pull")):
        try:
            use()
        except ForkError as error:
            assert "make a client in each process" in error.message
        else:
            sys.exit("expected a ForkError")
    client.close()
    try:
        with Client(address, transport=transport) as own:
            assert transport == "zmq" and own.describe().is_owned
    except ForkError as error:
        assert transport == "grpc" and "'spawn'" in error.message
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert client.describe().is_owned
session.reset("push")
session.close()
"""


@pytest.mark.parametrize("transport", ["grpc", "zmq"])
def test_a_fork_does_not_use_the_client_of_its_parent(daemon: Daemon, transport: TransportName) -> None:
    address = daemon.address if transport == "grpc" else daemon.zmq_address
    arguments = [sys.executable, "-W", "ignore", "-c", FORKING_CLIENT, str(address), transport]
    found = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr


def test_a_closed_client_says_so(client: Client) -> None:
    client.close()
    client.close()
    with pytest.raises(TransportError, match="expected an open client, found it closed: make another"):
        client.describe()
