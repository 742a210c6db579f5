"""A stop from outside the network: a UNIX signal, and a file descriptor such as the driver of a button holds.

Bound to the daemon's stop latch, which is answered while inference runs or hangs. Not a safety-rated stop.
"""

from __future__ import annotations

import os
import signal
import stat

from saccade.proto.errors import ServeError

_NOT_FREE = {"SIGKILL", "SIGSTOP", "SIGTERM", "SIGINT", "SIGHUP", "SIGCHLD", "SIGCONT"}
"""Signals that end or pause the daemon, or that others send for reasons of their own."""


class StopLine:
    """What stops the robot beside the calls.

    A descriptor whose other end closes stops too, once: the button, or its driver, is gone.

    Args:
        signal_name: Name of the signal, as ``SIGUSR1``; empty = none.
        fd: The descriptor, open for reading: a pipe, socket, terminal or device; None = none.

    Raises:
        ServeError: There is no such signal, it is not free for this, or the descriptor cannot be waited for.

    Attributes:
        signal: The signal, or None.
        fd: The descriptor while its other end is open, or None.
    """

    signal: signal.Signals | None
    fd: int | None

    def __init__(self, signal_name: str = "", fd: int | None = None) -> None:
        self.signal = _signal(signal_name) if signal_name else None
        self.fd = fd
        if fd is not None:
            _check_waits(fd)

    def take(self) -> str:
        """Read what came on the descriptor, which is readable, and return why the robot is stopped, for people."""
        assert self.fd is not None  # noqa: S101 - it was readable
        try:
            came = os.read(self.fd, 4096)
        except BlockingIOError:  # somebody else read it: the button was pressed all the same
            came = b"?"
        except OSError as error:
            return self._lost(f"reading it fails: {error}")
        return f"file descriptor {self.fd}" if came else self._lost("its other end closed")

    def _lost(self, why: str) -> str:
        fd, self.fd = self.fd, None
        return f"file descriptor {fd} stops no more: {why}"


def _signal(name: str) -> signal.Signals:
    known = {each.name for each in signal.valid_signals() if isinstance(each, signal.Signals)} - _NOT_FREE
    if name not in known:
        raise ServeError(
            f"expected a signal of this system that is free to stop the robot, such as SIGUSR1, found {name!r}."
        )
    return signal.Signals[name]


def _check_waits(fd: int) -> None:
    try:
        mode = os.fstat(fd).st_mode
        os.set_inheritable(fd, False)
    except OSError as error:
        raise ServeError(
            f"expected an open file descriptor to stop the robot, found {fd}: {error}."
        ) from error
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        raise ServeError(
            f"expected a pipe, socket, terminal or device to stop the robot, found a file at descriptor {fd}: it would "
            "stop at once, and for ever."
        )
