"""A real daemon in a real process: it comes up, refuses with the daemon's own error, and goes away."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from saccade.proto.errors import BundleIntegrityError, ServeError, UnavailableError
from saccade.runtime.client import Client
from saccade.sim.daemon_process import DaemonProcess


def test_serves_until_it_is_left(bundle: Path) -> None:
    with DaemonProcess(bundle, threads=1, is_zmq=True) as daemon:
        for address, transport in ((daemon.address, "grpc"), (daemon.zmq_address, "zmq")):
            assert address is not None
            with Client(address, transport=transport) as client:
                assert client.describe().is_ready
    with Client(daemon.address, deadline_s=2) as client, pytest.raises(UnavailableError):
        client.describe()


def test_two_daemons_do_not_share_a_port(bundle: Path) -> None:
    with DaemonProcess(bundle, threads=1) as one, DaemonProcess(bundle, threads=1) as other:
        assert one.address != other.address
        assert one.zmq_address is None


def test_says_what_the_daemon_says(bundle: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(bundle, damaged)
    (damaged / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleIntegrityError, match=r"tokenizer\.json"), DaemonProcess(damaged):
        pass


def test_a_daemon_that_cannot_start_is_an_error_that_shows_why(bundle: Path) -> None:
    daemon = DaemonProcess(bundle)
    daemon._command += ["--no-such-option"]
    with pytest.raises(ServeError, match=r"exit code 2.*--no-such-option.*saccade doctor"), daemon:
        pass
