"""The daemon's behaviour, without a transport: request message in, reply message or error out.

Two locks. That of the lease is held for microseconds; ``_engine_lock`` is held for a whole control step. Only Reset and
Act take the second; Stop takes neither, so it never waits for the engine, nor does Generate: it has an engine and a
thread of its own. Nor does who waits for the view scorer hold one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from google.protobuf.message import Message

from saccade.proto.codec import error_to_wire
from saccade.proto.distribution import VERSION
from saccade.proto.errors import (
    DeadlineError,
    DrainingError,
    InternalError,
    MessageError,
    SaccadeError,
    SupersededError,
    ViewsUnscoredError,
)
from saccade.proto.manifest import manifest_to_json
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.v1 import control_pb2 as wire
from saccade.proto.versions import WIRE_VERSION, check_wire_version
from saccade.runtime.answering.answer_thread import AnswerThread
from saccade.runtime.answering.question import nobody_answers
from saccade.runtime.clock import Clock, clock_id, monotonic_ns
from saccade.runtime.deadline.chooser import ProfileChooser
from saccade.runtime.guards.seam_rules import SeamRules
from saccade.runtime.guards.staleness import chunk_ns
from saccade.runtime.observation import ActionChunk
from saccade.runtime.paced_spin import PacedSpin
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.scoring.view_scores import ViewScorer
from saccade.runtime.servers.answers import AnswerEndpoint, WhenGone
from saccade.runtime.servers.chunk_notes import ChunkNotes
from saccade.runtime.servers.client_clock import on_clients_clock, on_our_clock, our_capture_ns
from saccade.runtime.servers.counters import Counters
from saccade.runtime.servers.drain import Drain
from saccade.runtime.servers.lease import Lease
from saccade.runtime.servers.limited_log import LimitedLog
from saccade.runtime.servers.message_size import message_bytes, observation_bytes
from saccade.runtime.servers.newest_slot import NewestSlot
from saccade.runtime.servers.stop_latch import StopLatch
from saccade.runtime.session import Session
from saccade.runtime.suspension import SuspensionWatch
from saccade.runtime.transports.wire_format import chunk_to_wire, clock_to_wire

_LOG = logging.getLogger(__name__)
DEFAULT_LEASE_NS = 10_000_000_000
DEFAULT_FROZEN_FRAMES = 10
_GLANCE_S = 0.05
"""How often who waits for the view scorer looks whether to wait on, seconds."""

Reply = Callable[[wire.StreamReply], None]
IsWanted = Callable[[], bool]
"""Whether the caller still waits for the answer."""


@dataclass(frozen=True)
class Method:
    """One call that a transport must offer besides Stream and Generate.

    Args:
        request: Type of the message that the call takes.
        call: What answers; takes the request and, if it waits, ``is_wanted``.
        waits: Whether it may wait for the engine. The others must be served even while every worker waits.
    """

    request: type[Message]
    call: Callable[..., Message]
    waits: bool = False


@dataclass(frozen=True)
class _Pending:
    request: wire.Observation
    arrived_ns: int
    reply: Reply


class Endpoint:
    """The daemon's side of every call: one robot, one owner at a time.

    Args:
        program: Executor of the bundle that controls the robot, loaded and warmed.
        lease_ns: How long the robot stays lent to a client that is silent, nanoseconds.
        max_age_ns: Oldest observation that is used, and latest chunk that is sent, nanoseconds after capture; None = as
            long as one chunk lasts, 0 = any age. A client may ask for less, not for more.
        max_frozen_frames: Refuse a view that repeated itself in this many frames in a row; 0 = never.
        refuses_far_proprio: Refuse proprioception far outside the statistics; False = named, counted and logged.
        noise_seed: Seed of the noise, for a bundle that draws actions out of noise.
        clock: Returns monotonic nanoseconds.
        scorer: Scores the views once per task, where the client tells no scores; None leaves them at 1.
        answers: Answers questions beside the robot's control steps; None = nobody does.
        chooser: Chooses the profile of each control step by a deadline; None = what the client asks for runs.
        spin_ns: How long to stay awake before the next observation of a steady client is expected, nanoseconds; 0 =
            never.
        rules: What the chunks of a session that does not limit itself are held to; None = each is limited by itself.

    Raises:
        ServeError: An observation or a question would be larger than a message can be.

    Attributes:
        counters: What was counted since the daemon started.
    """

    def __init__(  # noqa: PLR0913
        self,
        program: ProgramExecutor,
        *,
        lease_ns: int = DEFAULT_LEASE_NS,
        max_age_ns: int | None = None,
        max_frozen_frames: int = DEFAULT_FROZEN_FRAMES,
        refuses_far_proprio: bool = False,
        noise_seed: int = 0,
        clock: Clock = monotonic_ns,
        scorer: ViewScorer | None = None,
        answers: AnswerThread | None = None,
        chooser: ProfileChooser | None = None,
        spin_ns: int = 0,
        rules: SeamRules | None = None,
    ) -> None:
        self.counters = Counters()
        self._spin = PacedSpin(spin_ns, clock)
        self._drain = Drain()
        self._log = LimitedLog(_LOG, clock)
        self._notes = ChunkNotes(self.counters, self._log)
        self._program = program
        self._manifest_json = manifest_to_json(program.manifest)
        self._max_age_ns = chunk_ns(program.manifest) if max_age_ns is None else max_age_ns
        self._max_frozen_frames = max_frozen_frames
        self._refuses_far_proprio = refuses_far_proprio
        self._noise_seed = noise_seed
        self._clock = clock
        self._scorer = scorer
        self._chooser = chooser
        self._rules = rules
        self._suspension = SuspensionWatch()
        self._answers = None if answers is None else AnswerEndpoint(answers, self.counters)
        self._max_message_bytes = message_bytes(
            observation_bytes(program.manifest), 0 if self._answers is None else self._answers.question_bytes
        )
        self._lease = Lease(lease_ns, clock)
        self._latch = StopLatch()
        self._engine_lock = threading.Lock()
        self._slot: NewestSlot[_Pending] = NewestSlot()
        self._streamer = threading.Thread(target=self._run_stream, name="saccade-stream", daemon=True)
        self._streamer.start()

    @property
    def is_ready(self) -> bool:
        """Whether calls are accepted; False from :meth:`drain` on."""
        return not self._drain.has_begun

    def methods(self) -> dict[str, Method]:
        """Return what a transport must offer besides Stream and Generate, by name."""
        return {
            "Describe": Method(wire.DescribeRequest, self.describe),
            "Open": Method(wire.OpenRequest, self.open),
            "Reset": Method(wire.ResetRequest, self.reset, waits=True),
            "Act": Method(wire.Observation, self.act, waits=True),
            "Stop": Method(wire.StopRequest, self.stop),
            "Close": Method(wire.CloseRequest, self.close),
        }

    @property
    def max_message_bytes(self) -> int:
        """Largest message worth accepting: one observation or question, and a margin."""
        return self._max_message_bytes

    def describe(self, _request: wire.DescribeRequest) -> wire.DescribeReply:
        """Say what is served."""
        clock = self._lease.owner_clock
        return wire.DescribeReply(
            wire_version=WIRE_VERSION,
            server_version=VERSION,
            engine=self._program.engine_name,
            manifest_json=self._manifest_json,
            clock_id=clock_id(),
            server_monotonic_ns=self._clock(),
            max_message_bytes=self.max_message_bytes,
            is_ready=self.is_ready,
            is_owned=self._lease.is_held,
            is_stopped=self._latch.is_set,
            counters=self.counters.snapshot(),
            answerer_manifest_json="" if self._answers is None else self._answers.manifest_json,
            operator_limits_json=self._operator_json,
            owner_clock=None if clock is None else clock_to_wire(clock),
        )

    def open(self, request: wire.OpenRequest) -> wire.OpenReply:
        """Lend the robot to a client.

        Raises:
            VersionError: The client speaks another wire version.
            UnknownProfileError: The bundle has no such profile.
            LeaseHeldError: Another client owns the robot.
            DrainingError: The daemon is shutting down.
        """
        self._check_ready()
        check_wire_version(request.wire_version)
        max_age_ns = min((limit for limit in (request.max_age_ns, self._max_age_ns) if limit), default=0)
        session = Session(
            self._program,
            profile=request.profile or FULL_PROFILE,
            max_age_ns=max_age_ns or None,
            max_frozen_frames=self._max_frozen_frames,
            refuses_far_proprio=self._refuses_far_proprio,
            noise_seed=self._noise_seed,
            clock=self._clock,
            scorer=self._scorer,
            chooser=self._chooser,
            seams=None if self._rules is None or request.limits_itself else self._rules.limiter(),
        )
        token = self._lease.take(
            request.client_name or "unnamed client", session, has_our_clock=request.clock_id == clock_id()
        )
        return wire.OpenReply(
            session_token=token,
            lease_ns=self._lease.duration_ns,
            max_age_ns=max_age_ns,
            operator_limits_json=self._operator_json,
        )

    def reset(self, request: wire.ResetRequest, *, is_wanted: IsWanted = lambda: True) -> wire.ResetReply:
        """Start an episode.

        Args:
            request: Token of the session, instruction, and what to do with the stop latch.
            is_wanted: Asked once the engine is free: whether the caller still waits.

        Raises:
            NoSessionError: The token is not the owner's.
            StoppedError: The stop latch is set and the request does not release it, or somebody stopped meanwhile.
            InstructionError: The instruction is empty, too long, no Unicode text, or of unknown words only.
            ViewScoresError: The scores are not for all views, one is negative or not finite, or the policy reads none.
            DrainingError: The daemon is shutting down.
        """
        mark = self._latch.mark()
        with self._engine_lock:
            self._check_wanted(is_wanted)
            owner = self._lease.renew(request.session_token, self._clock())
            if not request.release_stop:
                self._latch.check()
            unknown = owner.session.reset(request.instruction, view_scores=request.view_scores)
            owner.reset_ns = self._clock()
            if request.release_stop:
                self._latch.release(mark)
        self._notes.say("instruction.unknown", unknown, "words that the model's tokenizer does not know")
        return wire.ResetReply(unknown_words=unknown)

    def act(
        self, request: wire.Observation, *, arrived_ns: int | None = None, is_wanted: IsWanted = lambda: True
    ) -> wire.ActionChunk:
        """Run one control step.

        Args:
            request: Token of the session, observation, and the profile that runs.
            arrived_ns: When the observation arrived, on the daemon's clock, if it has waited since; None = now.
            is_wanted: Asked once the engine is free: whether the caller still waits.

        Raises:
            NoSessionError: The token is not the owner's.
            StoppedError: The stop latch is set, or was set meanwhile.
            SupersededError: The observation arrived before the episode began.
            DrainingError: The daemon is shutting down.
            SaccadeError: Whatever :meth:`saccade.runtime.session.Session.act` raises.
        """
        arrived_ns = self._clock() if arrived_ns is None else arrived_ns
        self.counters.count("observations")
        self._note_arrival(arrived_ns)
        try:
            chunk = self._step(request, arrived_ns, is_wanted)
        except ViewsUnscoredError:
            if not self._has_scores_in_time(request, arrived_ns, is_wanted):
                raise
            chunk = self._step(request, arrived_ns, is_wanted)
        chunk = on_clients_clock(chunk, request.captured_monotonic_ns)
        chunk.timings_ns["total"] = self._clock() - arrived_ns
        self._notes.note(chunk)
        reply = chunk_to_wire(chunk)
        reply.arrived_server_ns, reply.replied_server_ns = arrived_ns, self._clock()
        return reply

    def _step(self, request: wire.Observation, arrived_ns: int, is_wanted: IsWanted) -> ActionChunk:
        with self._engine_lock:
            self._check_wanted(is_wanted)
            owner = self._lease.renew(request.session_token, arrived_ns)
            if arrived_ns < owner.reset_ns:
                raise SupersededError(
                    "expected an observation of this episode, found one that arrived before its reset: ignore it."
                )
            self._latch.check()
            observation = on_our_clock(request, owner, arrived_ns)
            self._notes.note_sleep(self._suspension.slept_ns())
            chunk = owner.session.step(observation, request.profile or None)
            self._lease.renew(request.session_token, arrived_ns)
            self._latch.check()
        return chunk

    def _has_scores_in_time(self, request: wire.Observation, arrived_ns: int, is_wanted: IsWanted) -> bool:
        """Wait for the view scorer without the engine, until the observation is too old, and say whether it is not yet.

        Whatever else ends the waiting (a stop, a newer episode, another owner) the next step finds out.

        Raises:
            SupersededError: A newer observation waits too.
            NoSessionError: The token is no longer the owner's.
        """
        while self.is_ready and not self._latch.is_set and is_wanted():
            owner = self._lease.renew(request.session_token, arrived_ns)
            owner.waits_ns = max(owner.waits_ns, arrived_ns)
            if arrived_ns < owner.waits_ns:
                raise _superseded()
            if arrived_ns < owner.reset_ns:
                break
            captured_ns = our_capture_ns(request, owner, arrived_ns)
            left_s = owner.session.time_left_s(captured_ns)
            if owner.session.wait_for_scores(min(left_s, _GLANCE_S)):
                break
            if left_s <= 0:
                return False
        return True

    def submit(self, request: wire.Observation, reply: Reply) -> None:
        """Hand in an observation of a stream; ``reply`` is called exactly once, from some thread.

        The newest wins: an observation that still waits is answered with :class:`SupersededError`.

        Args:
            request: The observation, with the token of its session.
            reply: Takes the chunk or the error.
        """
        pending = _Pending(request, self._clock(), reply)
        try:
            self._check_ready()
            self._lease.check(request.session_token)
        except SaccadeError as error:
            reply(_stream_error(self.failure(error), request.sequence))
            return
        replaced = self._slot.put(pending)
        if replaced is pending:
            reply(_stream_error(draining(), request.sequence))
        elif replaced is not None:
            self.counters.count("superseded")
            replaced.reply(_stream_error(_superseded(), replaced.request.sequence))

    def stop(self, request: wire.StopRequest) -> wire.StopReply:
        """Set the stop latch; waits for nothing."""
        self._latch.set(request.reason)
        self.counters.count("stops")
        return wire.StopReply()

    def generate(self, request: wire.Question, *, when_gone: WhenGone) -> Iterator[wire.AnswerPiece]:
        """Answer a question; see :meth:`saccade.runtime.servers.answers.AnswerEndpoint.generate`.

        Args:
            request: The question.
            when_gone: Takes what to call once nobody waits for the answer any more.

        Raises:
            QuestionError: Nobody here answers questions.
            DrainingError: The daemon is shutting down.
        """
        self._check_ready()
        if self._answers is None:
            raise nobody_answers()
        return self._answers.generate(request, when_gone)

    def close(self, request: wire.CloseRequest) -> wire.CloseReply:
        """Take the robot back from its owner.

        Raises:
            NoSessionError: The token is not the owner's.
        """
        self._lease.end(request.session_token)
        return wire.CloseReply()

    def attend(self, request: wire.AttendRequest, end: Callable[[], None]) -> Callable[[], None]:
        """Watch over the client of a session while a call of its stands; return what to call once it stands no more.

        Args:
            request: Token of the session.
            end: Ends the call; called once the session is over or the daemon drains.

        Raises:
            SaccadeError: The token is not the owner's, or the daemon is shutting down.
        """
        self._lease.when_over(request.session_token, end)
        self._check_ready()  # asked last: draining ends what was there before
        return partial(self.abandon, request.session_token)

    def abandon(self, token: str) -> None:
        """Shorten the lease of a client whose connection broke: it may have vanished.

        Args:
            token: Token of the client's session.
        """
        if self.is_ready and self._lease.shorten(token):
            self.counters.count("vanished")

    def drain(self) -> None:
        """Finish the control step that runs and begin no other, and break off an answer; whoever asks is told so."""
        self._drain.begin()
        self._lease.drain()
        if self._answers is not None:
            self._answers.drain()

    def when_draining(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Have something called once no more is served, at once if that is so; return what takes that back."""
        return self._drain.when_begun(tell)

    def shut_down(self) -> None:
        """Drain, and end the stream's thread."""
        self.drain()
        self._slot.close()
        self._streamer.join()

    def failure(self, error: Exception) -> SaccadeError:
        """Turn what a method above raised into an error that may leave the daemon, and count it.

        Defects and malformed messages are logged; whoever sends many of either does not fill the log.
        """
        if isinstance(error, MessageError):
            self._log.write(logging.WARNING, error.code, f"refused a message: {error.message}")
        elif not isinstance(error, SaccadeError):
            self._log.write(logging.ERROR, type(error).__name__, "internal error", error=error)
            error = InternalError(
                f"expected no internal error, found {type(error).__name__}: see the daemon's log."
            )
        self.counters.count(f"errors.{error.code}")
        return error

    def _note_arrival(self, arrived_ns: int) -> None:
        """Tell the spin of an observation, and the thread that spins, which may sleep without an end."""
        if self._spin.is_on:
            self._spin.note(arrived_ns)
            self._slot.wake()

    def _run_stream(self) -> None:
        while (pending := self._slot.take(self._spin)) is not None:
            try:
                reply = wire.StreamReply(chunk=self.act(pending.request, arrived_ns=pending.arrived_ns))
            except Exception as error:  # noqa: BLE001 - mapped to a wire error
                reply = _stream_error(self.failure(error), pending.request.sequence)
            pending.reply(reply)

    def _check_ready(self) -> None:
        if not self.is_ready:
            raise draining()

    def _check_wanted(self, is_wanted: IsWanted) -> None:
        """Ask once the engine is free: the caller may have gone while the call waited for it."""
        self._check_ready()
        if not is_wanted():
            raise DeadlineError("expected a caller that still waits, found it gone: nothing was done.")

    @property
    def _operator_json(self) -> str:
        return "" if self._rules is None else self._rules.operator_json


def draining() -> DrainingError:
    """Return what everybody is told who asks for more while the daemon shuts down."""
    return DrainingError("expected a daemon that serves, found it shutting down: hold the arm.")


def _superseded() -> SupersededError:
    return SupersededError("expected to use this observation, found a newer one: slow down or ignore it.")


def _stream_error(error: SaccadeError, sequence: int) -> wire.StreamReply:
    return wire.StreamReply(error=error_to_wire(error, sequence=sequence))
