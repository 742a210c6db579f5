"""Until when a transport may be used: in the process that made it, and until it is closed.

A fork inherits the connection of its parent, but not the threads that serve it: over ZeroMQ it would wait for ever, and
over gRPC two processes would write into one connection.
"""

from __future__ import annotations

import os

from saccade.proto.errors import ForkError, TransportError

_grpc_process: int | None = None


class Validity:
    """Remembers in which process something was made, and whether it was closed."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._is_closed = False

    def check(self) -> None:
        """Refuse a use that cannot work.

        Raises:
            ForkError: This is another process than the one that made it.
            TransportError: It was closed.
        """
        if os.getpid() != self._process:
            raise ForkError(
                f"expected a client in the process that made it, {self._process}, found it in the fork {os.getpid()}: "
                "make a client in each process."
            )
        if self._is_closed:
            raise TransportError("expected an open client, found it closed: make another.")

    def close(self) -> bool:
        """Say whether there is something to close here: for the first time, and not in a fork."""
        was_closed, self._is_closed = self._is_closed, True
        return not was_closed and os.getpid() == self._process


def claim_grpc() -> None:
    """Note that this process uses gRPC, whose threads and locks do not survive a fork.

    Raises:
        ForkError: The process is a fork of one that has used it.
    """
    global _grpc_process  # noqa: PLW0603 - gRPC is one for the whole process
    if _grpc_process not in {None, os.getpid()}:
        raise ForkError(
            f"expected a process that can use gRPC, found {os.getpid()}, a fork of {_grpc_process}, which has used it: "
            "gRPC does not survive a fork. Start the process with multiprocessing's 'spawn', fork before the first "
            "client is made, or connect with transport='zmq'."
        )
    _grpc_process = os.getpid()
