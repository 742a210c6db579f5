"""The daemon: verify, load, warm up, bind, serve, drain."""

from __future__ import annotations

import logging
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from saccade.proto.errors import ServeError
from saccade.proto.lowering_spec import CANONICAL
from saccade.proto.v1 import control_pb2 as wire
from saccade.runtime.answering.answer_thread import AnswerThread
from saccade.runtime.binding import check_bind
from saccade.runtime.bundle import Bundle
from saccade.runtime.cores import checked_threads
from saccade.runtime.deadline.allowed import DEFAULT_SUCCESS_KEPT, allowed_profiles
from saccade.runtime.deadline.chooser import ProfileChooser
from saccade.runtime.deadline.step_times import measured_step_times
from saccade.runtime.engines.registry import DEFAULT_ENGINE, open_backend
from saccade.runtime.guards.seam_rules import SeamRules
from saccade.runtime.motion.operator_limits import OperatorLimits
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.scoring.scorer_bundle import open_view_scorer
from saccade.runtime.servers.endpoint import DEFAULT_FROZEN_FRAMES, DEFAULT_LEASE_NS, Endpoint
from saccade.runtime.servers.grpc_server import GrpcServer
from saccade.runtime.servers.zmq_server import ZmqServer
from saccade.runtime.session import check_controls
from saccade.runtime.stop_line import StopLine

_LOG = logging.getLogger(__name__)
_GRACE_S = 5.0
_RINGS = 64
"""Signals that are taken at once."""


@dataclass(frozen=True)
class DaemonConfig:
    """How a daemon serves.

    Args:
        bundle: Directory of the bundle.
        bind: ``host:port`` that gRPC listens on; port 0 picks a free one.
        zmq_bind: ``host:port`` that ZeroMQ listens on; None serves none.
        is_insecure_bind_allowed: Whether to bind beyond loopback too, where anyone on the network can drive the robot.
        engine: Name of what executes the graphs of ``bundle``.
        lowering: Name of the form of its graphs that runs.
        plans: Folder of the plans of an engine that has some; None = in the user's cache.
        threads: Threads of the engine; 0 = one for each core.
        prepack: Faster matrix products for a copy of the weights in each profile.
        lease_ns: How long the robot stays lent to a client that is silent, nanoseconds.
        max_age_ns: Oldest observation that is used, and latest chunk that is sent, nanoseconds after capture; None = as
            long as one chunk lasts, 0 = any age.
        max_frozen_frames: Refuse a view that repeated itself in this many frames in a row; 0 = never.
        refuses_far_proprio: Refuse proprioception far outside the statistics; False = named, counted and logged.
        noise_seed: Seed of the noise, for a bundle that draws actions out of noise.
        view_scorer: Directory of a bundle that scores the views once per task, one that answers or one of kind
            ``scorer``; None leaves them at 1 unless a client tells scores.
        answerer: Directory of a bundle that answers questions beside the robot's control steps; None answers none.
        answerer_threads: Threads of the answerer's engine, and of that of a view scorer that answers; 0 = one for each
            core.
        deadline_ns: When a chunk has to be ready, nanoseconds after its observation was captured: the profile of each
            control step is chosen by it; 0 = what the client asks for runs.
        deadline_profiles: Names of the profiles to choose from; empty = those that the closed-loop receipt proves.
        success_kept: Share of the successes of ``full`` that a profile must have in each task, 0 to 1.
        spin_ns: How long to stay awake before the next observation of a steady client is expected, nanoseconds; 0 =
            never.
        limits: Limits of this cell, narrower than the bundle's; None = the bundle's own.
        refuses_over_limits: Refuse a chunk that does not follow on from the commands before within the limits; False =
            move it within, counted and logged.
        stop_signal: Signal of UNIX that sets the stop latch, as ``SIGUSR1``; empty = none.
        stop_fd: File descriptor that sets the stop latch when a byte can be read there, or its other end closes; None =
            none.
    """

    bundle: Path
    bind: str = "127.0.0.1:7447"
    zmq_bind: str | None = None
    is_insecure_bind_allowed: bool = False
    engine: str = DEFAULT_ENGINE
    lowering: str = CANONICAL
    plans: Path | None = None
    threads: int = 0
    prepack: bool = True
    lease_ns: int = DEFAULT_LEASE_NS
    max_age_ns: int | None = None
    max_frozen_frames: int = DEFAULT_FROZEN_FRAMES
    refuses_far_proprio: bool = False
    noise_seed: int = 0
    view_scorer: Path | None = None
    answerer: Path | None = None
    answerer_threads: int = 1
    deadline_ns: int = 0
    deadline_profiles: tuple[str, ...] = ()
    success_kept: float = DEFAULT_SUCCESS_KEPT
    spin_ns: int = 0
    limits: OperatorLimits | None = None
    refuses_over_limits: bool = False
    stop_signal: str = ""
    stop_fd: int | None = None

    def __post_init__(self) -> None:
        for name in ("lease_ns", "max_age_ns", "max_frozen_frames", "noise_seed", "deadline_ns", "spin_ns"):
            if (getattr(self, name) or 0) < 0:
                raise ServeError(f"{name}: expected 0 or more, found {getattr(self, name)}.")
        for name in ("threads", "answerer_threads"):
            checked_threads(getattr(self, name), name)


class Daemon:
    """A running daemon; a context manager that serves on entry and drains on exit.

    Raises (on entry):
        InsecureBindError: A bind beyond loopback that was not allowed.
        AddressInUseError: A port is taken.
        BundleError: The bundle cannot be trusted or used.
        EngineError: A graph cannot be loaded or run.

    Args:
        config: How to serve.

    Attributes:
        address: ``host:port`` that gRPC listens on.
        zmq_address: ``host:port`` that ZeroMQ listens on, or None.
    """

    address: str
    zmq_address: str | None = None
    endpoint: Endpoint

    def __init__(self, config: DaemonConfig) -> None:
        self._config = config
        self._resources = ExitStack()

    def __enter__(self) -> Daemon:
        binds = [bind for bind in (self._config.bind, self._config.zmq_bind) if bind is not None]
        check_bind(*binds, is_insecure_allowed=self._config.is_insecure_bind_allowed)
        with ExitStack() as stack:
            self._serve(stack)
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def _serve(self, stack: ExitStack) -> None:
        config = self._config
        bundle = Bundle.open(config.bundle)
        check_controls(bundle.manifest)
        rules = SeamRules(bundle.manifest, config.limits, refuses=config.refuses_over_limits)
        backend = stack.enter_context(
            open_backend(config.engine, threads=config.threads, prepack=config.prepack, plans=config.plans)
        )
        program = ProgramExecutor(bundle, backend, lowering=config.lowering)
        program.warm_up()
        chooser = self._chooser(bundle, program)
        scorer = None
        if config.view_scorer is not None:
            scorer = stack.enter_context(
                open_view_scorer(
                    config.view_scorer,
                    backend,
                    bundle.manifest,
                    threads=config.answerer_threads,
                    prepack=config.prepack,
                )
            )
        self.endpoint = Endpoint(
            program,
            lease_ns=config.lease_ns,
            max_age_ns=config.max_age_ns,
            max_frozen_frames=config.max_frozen_frames,
            refuses_far_proprio=config.refuses_far_proprio,
            noise_seed=config.noise_seed,
            scorer=scorer,
            answers=self._answers(stack),
            chooser=chooser,
            spin_ns=config.spin_ns,
            rules=rules,
        )
        stack.callback(self.endpoint.shut_down)
        if config.zmq_bind is not None:
            zmq_server = ZmqServer(self.endpoint, config.zmq_bind)
            zmq_server.start()
            stack.callback(zmq_server.stop)
            self.zmq_address = zmq_server.address
        grpc_server = GrpcServer(self.endpoint, config.bind)
        grpc_server.start()
        stack.callback(grpc_server.stop, grace_s=_GRACE_S)
        self.address = grpc_server.address
        stack.callback(self.endpoint.drain)  # on the way out this comes first

    def _chooser(self, bundle: Bundle, program: ProgramExecutor) -> ProfileChooser | None:
        config = self._config
        if not config.deadline_ns:
            return None
        allowed = allowed_profiles(
            bundle.manifest,
            config.deadline_profiles,
            lowering=config.lowering,
            success_kept=config.success_kept,
        )
        return ProfileChooser(config.deadline_ns, measured_step_times(program), allowed)

    def _answers(self, stack: ExitStack) -> AnswerThread | None:
        config = self._config
        if config.answerer is None:
            return None
        bundle = Bundle.open(config.answerer)
        return stack.enter_context(
            AnswerThread(bundle, threads=config.answerer_threads, prepack=config.prepack)
        )


def run(config: DaemonConfig, *, on_ready: Callable[[Daemon], None]) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP, then drain; a second signal ends the process at once.

    The stop signal and the stop descriptor of the configuration set the stop latch, those that come while the daemon
    still loads as soon as it serves.

    A SIGHUP that whoever started the process has it ignore (``nohup``) stays ignored.

    Args:
        config: How to serve.
        on_ready: Called with the daemon once everything is loaded, warmed and bound.
    """
    received: list[int] = []

    def stop(number: int, _stack: FrameType | None) -> None:
        received.append(number)
        _LOG.info("%s: draining", signal.Signals(number).name)
        for each in ending:
            signal.signal(each, signal.SIG_DFL)

    line = StopLine(config.stop_signal, config.stop_fd)
    ending = _ending_signals()
    with _signal_bell() as bell:
        for each in ending:
            signal.signal(each, stop)
        if line.signal is not None:
            signal.signal(line.signal, lambda _number, _stack: None)  # the bell tells it
        with Daemon(config) as daemon:
            on_ready(daemon)
            while not received:
                _listen(bell, line, daemon)


def _listen(bell: socket.socket, line: StopLine, daemon: Daemon) -> None:
    """Wait for signals and the stop line, and stop the robot if it is told so."""
    reasons = []
    sources: list[Any] = [bell] if line.fd is None else [bell, line.fd]
    ready, _, _ = select.select(sources, [], [])
    rung = bell.recv(_RINGS) if bell in ready else b""
    if line.signal is not None and line.signal in rung:
        reasons.append(line.signal.name)
    if line.fd in ready:
        reasons.append(line.take())
    for reason in reasons:
        daemon.endpoint.stop(wire.StopRequest(reason=reason))
        _LOG.warning("the robot is stopped: %s", reason)


def _ending_signals() -> tuple[signal.Signals, ...]:
    ending = [signal.SIGTERM, signal.SIGINT]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ending.append(signal.SIGHUP)  # the terminal or the connection that started it is gone
    return tuple(ending)


@contextmanager
def _signal_bell() -> Iterator[socket.socket]:
    """A socket that becomes readable with every signal.

    The kernel may hand a signal to any thread, but Python's handlers run on the main thread alone, and one that waits
    for a lock is not woken by what another thread received. One that reads this socket is.
    """
    bell, rope = socket.socketpair()
    with bell, rope:
        rope.setblocking(False)
        before = signal.set_wakeup_fd(rope.fileno())
        try:
            yield bell
        finally:
            signal.set_wakeup_fd(before)
