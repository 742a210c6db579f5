from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from saccade.proto.errors import ServeError
from saccade.runtime.stop_line import StopLine


def test_every_press_stops_and_so_does_a_button_that_is_gone() -> None:
    ours, button = os.pipe()
    line = StopLine("SIGUSR1", ours)
    assert (line.signal, line.fd) == (signal.SIGUSR1, ours)
    for _ in range(2):
        os.write(button, b"press, more than once")
        assert line.take() == f"file descriptor {ours}"
    os.close(button)
    assert line.take() == f"file descriptor {ours} stops no more: its other end closed"
    assert line.fd is None
    os.close(ours)


def test_a_descriptor_that_somebody_else_reads_too_still_stops() -> None:
    ours, button = socket.socketpair()
    with ours, button:
        ours.setblocking(False)
        assert StopLine(fd=ours.fileno()).take() == f"file descriptor {ours.fileno()}"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGNONE", "usr1"])
def test_not_every_signal_is_free(name: str) -> None:
    with pytest.raises(ServeError, match=f"such as SIGUSR1, found '{name}'"):
        StopLine(name)


def test_what_cannot_be_waited_for_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "button"
    path.touch()
    with path.open() as file, pytest.raises(ServeError, match="found a file at descriptor"):
        StopLine(fd=file.fileno())
    with pytest.raises(ServeError, match="expected an open file descriptor"):
        StopLine(fd=987_654)
