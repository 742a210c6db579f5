"""The daemon as a real subprocess on a free loopback port."""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from saccade.proto.errors import SaccadeError, ServeError, error_from_code
from saccade.proto.lowering_spec import CANONICAL
from saccade.runtime.engines.registry import DEFAULT_ENGINE

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 15.0
_HEALTH_TIMEOUT_S = 5.0
_REFUSAL = re.compile(r"^Error: (?P<message>.*) \[(?P<code>[a-z_.]+)\]\s*$", re.MULTILINE | re.DOTALL)


class DaemonProcess:
    """A daemon, ``saccade serve BUNDLE``, in a process of its own; a context manager.

    It ends with the process that started it, however that ends.

    Args:
        bundle: Directory of the bundle.
        engine: Name of what executes the graphs.
        lowering: Name of the form of the graphs that runs.
        threads: Threads of the engine; 0 = one for each core.
        is_zmq: Whether to serve ZeroMQ too.
        view_scorer: Directory of a bundle that scores views; None = none.
        answerer: Directory of a bundle that answers questions; None = none.
        answerer_threads: Threads of the answerer's engine; 0 = one for each core.
        is_lean: Whether all profiles share one copy of the weights.
        deadline_ms: When a chunk has to be ready, milliseconds after the capture; 0 = no deadline.
        deadline_profiles: Names of the profiles to choose from; empty = those that the closed-loop receipt proves.

    Attributes:
        address: ``host:port`` that gRPC listens on.
        zmq_address: ``host:port`` that ZeroMQ listens on, or None.
        pid: Process id of the daemon.

    Raises (on entry):
        SaccadeError: What the daemon refused to start with.
        ServeError: The daemon ended or stayed silent without saying why.
    """

    address: str
    zmq_address: str | None
    pid: int

    def __init__(  # noqa: PLR0913 - the options of `saccade serve`
        self,
        bundle: Path,
        *,
        engine: str = DEFAULT_ENGINE,
        lowering: str = CANONICAL,
        threads: int = 0,
        is_zmq: bool = False,
        view_scorer: Path | None = None,
        answerer: Path | None = None,
        answerer_threads: int = 1,
        is_lean: bool = False,
        deadline_ms: float = 0.0,
        deadline_profiles: tuple[str, ...] = (),
    ) -> None:
        self._command = [sys.executable, "-m", "saccade.sim.tied_daemon", "serve"]
        self._command += [str(bundle), "--bind", "127.0.0.1:0", "--threads", str(threads), "--json"]
        self._command += ["--engine", engine, "--lowering", lowering]
        # A simulated world stands still while it waits, and its cameras have no noise.
        self._command += ["--max-age-ms", "0", "--max-frozen-frames", "0"]
        if deadline_ms:
            self._command += ["--deadline-ms", str(deadline_ms)]
            self._command += [word for name in deadline_profiles for word in ("--deadline-profile", name)]
        if is_lean:
            self._command += ["--lean"]
        if is_zmq:
            self._command += ["--zmq-bind", "127.0.0.1:0"]
        if view_scorer is not None:
            self._command += ["--view-scorer", str(view_scorer)]
        if answerer is not None:
            self._command += ["--answerer", str(answerer), "--answerer-threads", str(answerer_threads)]
        self._resources = ExitStack()

    def __enter__(self) -> DaemonProcess:
        with ExitStack() as stack:
            log = stack.enter_context(tempfile.TemporaryFile("w+"))
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own arguments
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
            stack.callback(_stop, process)
            ready = json.loads(_first_line(process) or "{}")
            if not ready.get("ready"):
                _stop(process)
                raise _refusal(log, process.returncode)
            self.address, self.zmq_address, self.pid = ready["grpc"], ready["zmq"], process.pid
            _check_health(self.address)
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()


def _first_line(process: subprocess.Popen[str]) -> str:
    """Return what the daemon says when it is ready; nothing if it ends or stays silent."""
    assert process.stdout is not None  # noqa: S101 - asked for with PIPE
    ready, _, _ = select.select([process.stdout], [], [], _START_TIMEOUT_S)
    return process.stdout.readline() if ready else ""


def _refusal(log: IO[str], returncode: int) -> SaccadeError:
    """Turn what a daemon that did not start wrote to stderr into the error it meant."""
    log.seek(0)
    text = log.read()
    refusal = _REFUSAL.search(text)
    if refusal is not None:
        return error_from_code(refusal["code"], refusal["message"])
    tail = " / ".join(text.strip().splitlines()[-3:]) or "nothing on stderr"
    return ServeError(
        f"expected the daemon to be ready within {_START_TIMEOUT_S:g} s, found exit code {returncode} and: {tail}. "
        f"Run `saccade doctor BUNDLE`."
    )


def _check_health(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        status = stub.Check(health_pb2.HealthCheckRequest(), timeout=_HEALTH_TIMEOUT_S).status
    if status != health_pb2.HealthCheckResponse.SERVING:
        name = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
        raise ServeError(f"expected the daemon at {address} to be SERVING, found {name}: see its log.")


def _stop(process: subprocess.Popen[str]) -> None:
    """Ask the daemon to drain and wait for it; after a while, end it."""
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
