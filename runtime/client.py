"""The thin client: numpy, the wire messages, and gRPC or ZeroMQ. What a robot controller installs.

    with Client("127.0.0.1:7447") as client, client.open(profile="keep25") as session:
        session.reset("push the red cube to the goal")
        chunk = session.act(observation)

    with Client("127.0.0.1:7447") as client:
        for piece in client.answerer().answer(Question("what is on the table?", {"image0": picture})):
            print(piece.text, end="", flush=True)

Every call has a deadline, and raises what the daemon raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType

from google.protobuf.message import Message

from saccade.proto.codec import error_from_wire
from saccade.proto.errors import DeadlineError, LateChunkError, SaccadeError, TransportError
from saccade.proto.instruction_spec import check_unicode
from saccade.proto.manifest import Manifest, manifest_from_json
from saccade.proto.v1 import control_pb2 as wire
from saccade.proto.versions import WIRE_VERSION, check_wire_version
from saccade.runtime.answering.question import Piece, Question, nobody_answers
from saccade.runtime.clock import clock_id, monotonic_ns
from saccade.runtime.clock_offset import ClockEstimate
from saccade.runtime.daemon_clock import DaemonClock
from saccade.runtime.guards.staleness import check_age, check_in_time, no_chunk_in_time
from saccade.runtime.motion.motion_limits import MotionLimits
from saccade.runtime.motion.operator_limits import OperatorLimits
from saccade.runtime.observation import ActionChunk, Observation
from saccade.runtime.transports.base import Reply, Transport
from saccade.runtime.transports.registry import TransportName, connect
from saccade.runtime.transports.wire_format import (
    chunk_from_wire,
    clock_from_wire,
    observation_to_wire,
    piece_from_wire,
    question_to_wire,
    unicode_only,
)

DEFAULT_DEADLINE_S = 10.0
DEFAULT_ANSWER_DEADLINE_S = 120.0


@dataclass(frozen=True)
class Description:
    """What a daemon serves.

    Args:
        manifest: Manifest of the bundle that controls the robot.
        engine: Name of what executes the graphs, e.g. ``ort-cpu``.
        server_version: Version of saccade that the daemon runs.
        has_our_clock: Whether the daemon reads the same monotonic clock as this program, so that times can be compared.
        is_ready: Whether the daemon is loaded, warmed and not draining.
        is_owned: Whether somebody holds the lease of the robot.
        is_stopped: Whether the stop latch is set.
        counters: What the daemon counted since it started, by name.
        answerer: Manifest of the bundle that answers questions; None where the daemon has none.
        operator_limits: Limits of this cell, narrower than the manifest's; None = nobody narrowed them.
        owner_clock: How the daemon's clock differs from its owner's, as that one measured it; None = not measured.
    """

    manifest: Manifest
    engine: str
    server_version: str
    has_our_clock: bool
    is_ready: bool
    is_owned: bool
    is_stopped: bool
    counters: dict[str, int]
    answerer: Manifest | None
    operator_limits: OperatorLimits | None = None
    owner_clock: ClockEstimate | None = None

    def motion_limits(self, narrower: OperatorLimits | None = None) -> MotionLimits:
        """Return what a control loop holds commands to: the bundle's limits, narrowed by the daemon's operator.

        Args:
            narrower: Limits to narrow those by; None = as they are.

        Raises:
            ManifestError: The bundle's actions cannot be limited one after the other.
            LimitsError: ``narrower`` is wider somewhere, or not for its axes.
        """
        limits = MotionLimits.of(self.manifest.limits, self.manifest.action)
        for each in (self.operator_limits, narrower):
            limits = limits if each is None else limits.narrowed(each)
        return limits


class Client:
    """A connection to a daemon. Not safe to share between threads over ZeroMQ, nor with a fork of the process.

    Args:
        address: ``host:port`` of the daemon.
        transport: How messages travel: ``grpc``, or ``zmq`` (ZeroMQ).
        deadline_s: How long each call may take, in seconds; every call has a deadline.
        name: What other clients are told of who owns the robot.

    Raises:
        AddressError: ``address`` is not ``host:port``.
        ForkError: Over gRPC, in a fork of a process that has used it.
        ImportError: The library of that transport is not installed.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:7447",
        *,
        transport: TransportName = "grpc",
        deadline_s: float = DEFAULT_DEADLINE_S,
        name: str = "saccade client",
    ) -> None:
        self._transport = connect(transport, address)
        self._deadline_s = deadline_s
        self._name = name

    def describe(self) -> Description:
        """Ask what is served.

        Raises:
            TransportError: Nobody answers.
            VersionError: The daemon speaks another wire version.
        """
        reply = self._call("Describe", wire.DescribeRequest(), wire.DescribeReply)
        check_wire_version(reply.wire_version)
        return Description(
            manifest=manifest_from_json(reply.manifest_json),
            engine=reply.engine,
            server_version=reply.server_version,
            has_our_clock=reply.clock_id == clock_id(),
            is_ready=reply.is_ready,
            is_owned=reply.is_owned,
            is_stopped=reply.is_stopped,
            counters=dict(reply.counters),
            answerer=manifest_from_json(reply.answerer_manifest_json)
            if reply.answerer_manifest_json
            else None,
            operator_limits=OperatorLimits.from_text(reply.operator_limits_json)
            if reply.operator_limits_json
            else None,
            owner_clock=clock_from_wire(reply.owner_clock) if reply.HasField("owner_clock") else None,
        )

    def motion_limits(self, narrower: OperatorLimits | None = None) -> MotionLimits:
        """Ask for what a control loop holds commands to: the bundle's limits, narrowed by the daemon's operator.

        Args:
            narrower: Limits to narrow those by; None = as they are.

        Raises:
            ManifestError: The bundle's actions cannot be limited one after the other.
            LimitsError: ``narrower`` is wider somewhere, or not for its axes.
            TransportError: Nobody answers.
        """
        return self.describe().motion_limits(narrower)

    def open(
        self, profile: str = "full", *, max_age_ns: int = 0, limits_itself: bool = False
    ) -> RemoteSession:
        """Become the owner of the robot.

        Args:
            profile: Name of the profile that runs where a step names none.
            max_age_ns: Stricter limit on the age of observations and chunks, nanoseconds; 0 leaves it to the daemon.
            limits_itself: Whether every command is limited here, by :meth:`motion_limits` and from what was sent
                before, as :class:`saccade.runtime.control.control_loop.ControlLoop` does; else the daemon limits each
                chunk from the one before, as if chunks were played from their first action on.

        Raises:
            LeaseHeldError: Another client owns the robot.
            UnknownProfileError: The bundle has no such profile.
        """
        with unicode_only("names of client and profile"):
            request = wire.OpenRequest(
                wire_version=WIRE_VERSION,
                client_name=self._name,
                profile=profile,
                clock_id=clock_id(),
                max_age_ns=max_age_ns,
                limits_itself=limits_itself,
            )
        reply = self._call("Open", request, wire.OpenReply)
        self._transport.attend(reply.session_token)
        return RemoteSession(
            self._transport,
            reply.session_token,
            self._deadline_s,
            reply.max_age_ns,
            limits_itself=limits_itself,
        )

    def answerer(self, *, deadline_s: float = DEFAULT_ANSWER_DEADLINE_S) -> RemoteAnswerer:
        """Return what answers questions in the daemon; needs no session.

        Args:
            deadline_s: How long a whole answer may take, in seconds.

        Raises:
            QuestionError: The daemon answers no questions.
            TransportError: Nobody answers.
        """
        manifest = self.describe().answerer
        if manifest is None:
            raise nobody_answers()
        return RemoteAnswerer(self._transport, manifest, deadline_s)

    def stop(self, reason: str = "") -> None:
        """Set the daemon's stop latch; needs no session.

        Args:
            reason: Why, for people; shown to whoever is refused.
        """
        # Not refused for a reason that cannot be read: it is only shown.
        readable = reason.encode("utf-8", "backslashreplace").decode("utf-8")
        self._call("Stop", wire.StopRequest(reason=readable), wire.StopReply)

    def close(self) -> None:
        """Hang up; a session that is open loses its lease within a second."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: str, request: Message, reply: type[Reply]) -> Reply:
        return self._transport.call(method, request, reply, deadline_s=self._deadline_s)


class RemoteSession:
    """The robot session in the daemon; made by :meth:`Client.open`.

    Attributes:
        max_age_ns: Limit in force, nanoseconds: older observations are refused, later chunks never returned; 0 = none.
        limits_itself: Whether every command is limited here; as it was asked for in :meth:`Client.open`.
    """

    def __init__(
        self,
        transport: Transport,
        token: str,
        deadline_s: float,
        max_age_ns: int,
        *,
        limits_itself: bool = False,
    ) -> None:
        self.max_age_ns = max_age_ns
        self.limits_itself = limits_itself
        self._clock = DaemonClock()
        self._transport = transport
        self._token = token
        self._deadline_s = deadline_s

    @property
    def clock(self) -> ClockEstimate | None:
        """How the daemon's clock differs from this one, by the round trips so far; None before the first."""
        return self._clock.estimate()

    def reset(
        self,
        instruction: str,
        *,
        release_stop: bool = False,
        view_scores: Mapping[str, float] | None = None,
    ) -> tuple[str, ...]:
        """Start an episode.

        Args:
            instruction: What the arm shall do.
            release_stop: Release the stop latch, if it is set.
            view_scores: How much each view matters in this task, by name: all views or none, each finite and not
                negative. Only for a bundle whose policy reads them.

        Returns:
            Parts of the instruction that the bundle's tokenizer has no token for.

        Raises:
            InstructionError: The instruction is empty, too long, no Unicode text, or of unknown words only.
            ViewScoresError: The scores are not for all views, one is negative or not finite, or the policy reads none.
            StoppedError: The stop latch is set and ``release_stop`` is not.
        """
        check_unicode(instruction)
        with unicode_only("names of views"):
            request = wire.ResetRequest(
                session_token=self._token,
                instruction=instruction,
                release_stop=release_stop,
                view_scores=view_scores or {},
            )
        reply = self._call("Reset", request, wire.ResetReply)
        self._transport.attend(self._token)
        return tuple(reply.unknown_words)

    def act(self, observation: Observation, profile: str | None = None) -> ActionChunk:
        """Run one control step.

        Waits for no longer than a chunk would be acted upon, whatever the client's deadline is.

        Args:
            observation: Images of all views, proprioception, and when they were captured by
                :func:`saccade.runtime.clock.monotonic_ns` on this machine.
            profile: Name of the profile that runs in this step; None = the session's.

        Raises:
            StaleObservationError: The observation is too old, or its capture time is of another clock.
            LateChunkError: The chunk arrived too late to act upon, or not before it would be.
            SaccadeError: What the daemon raised, or a :class:`TransportError`.
        """
        age_ns = monotonic_ns() - observation.captured_ns
        check_age(age_ns, self.max_age_ns or None)
        left_s = (self.max_age_ns - age_ns) / 1e9 if self.max_age_ns else self._deadline_s
        request = self._pack(observation, profile)
        try:
            reply = self._transport.call(
                "Act", request, wire.ActionChunk, deadline_s=min(left_s, self._deadline_s)
            )
        except SaccadeError as error:
            self._clock.forget(observation.sequence)
            if isinstance(error, DeadlineError) and left_s < self._deadline_s:
                raise no_chunk_in_time(self.max_age_ns) from error
            raise
        self._clock.receive(reply)
        self._transport.attend(self._token)
        return self._in_time(chunk_from_wire(reply))

    def stream(
        self, observations: Iterable[Observation], profile: str | None = None
    ) -> Iterator[ActionChunk | SaccadeError]:
        """Send observations as they come, from another thread, and yield exactly one answer for each.

        The newest observation wins: one that waited in vain is answered with
        :class:`saccade.proto.errors.SupersededError`. Errors that concern one observation are yielded, not raised.

        Args:
            observations: Read on another thread, so the iterator may wait for a camera.
            profile: Name of the profile that runs; None = the session's.

        Raises:
            Exception: Whatever ``observations`` raised.
            TransportError: The stream broke.
        """
        requests = (self._pack(observation, profile) for observation in observations)
        for reply in self._transport.stream(requests):
            if reply.WhichOneof("reply") == "error":
                self._clock.forget(reply.error.sequence)
                yield error_from_wire(reply.error)
                continue
            self._clock.receive(reply.chunk)
            try:
                chunk = self._in_time(chunk_from_wire(reply.chunk))
            except LateChunkError as error:
                yield error
            else:
                yield chunk

    def close(self) -> None:
        """Give the robot back."""
        self._call("Close", wire.CloseRequest(session_token=self._token), wire.CloseReply)

    def __enter__(self) -> RemoteSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except SaccadeError:
            return  # the error that ended the block matters more than a lease that runs out by itself

    def _in_time(self, chunk: ActionChunk) -> ActionChunk:
        """Both times are this client's own, so this holds across hosts too. A time ahead of ours proves nothing."""
        check_in_time(monotonic_ns() - chunk.captured_ns, self.max_age_ns or None, "arrived")
        return chunk

    def _pack(self, observation: Observation, profile: str | None) -> wire.Observation:
        return self._clock.send(observation_to_wire(observation, token=self._token, profile=profile or ""))

    def _call(self, method: str, request: Message, reply: type[Reply]) -> Reply:
        return self._transport.call(method, request, reply, deadline_s=self._deadline_s)


class RemoteAnswerer:
    """The answerer in the daemon; made by :meth:`Client.answerer`.

    Attributes:
        manifest: Manifest of the bundle that answers: views, profiles, how pictures are made to fit.
    """

    def __init__(self, transport: Transport, manifest: Manifest, deadline_s: float) -> None:
        self.manifest = manifest
        self._transport = transport
        self._deadline_s = deadline_s

    def answer(self, question: Question) -> Iterator[Piece]:
        """Ask when the first piece is asked for, and yield the pieces as they come; whoever leaves ends the answer.

        Args:
            question: Text, pictures, and how the answer is generated.

        Raises:
            AnswererBusyError: Another question is being answered.
            InstructionError: The question is empty, too long or no Unicode text.
            ImageError: A picture is missing, unknown, of another dtype, or cannot be fitted.
            QuestionError: More tokens are asked for than there is room for, or none.
            DeadlineError: The answer took too long.
            TransportError: The answer ended without its last piece: what came is incomplete.
            SaccadeError: What else the daemon raised.
        """
        request = question_to_wire(question)
        count, is_whole = 0, False
        for message in self._transport.generate(request, deadline_s=self._deadline_s):
            piece = piece_from_wire(message)
            count, is_whole = count + 1, piece.is_last
            yield piece
        if not is_whole:
            raise TransportError(
                f"expected an answer up to its last piece, found its end after {count} tokens: what came is "
                "incomplete; ask again, and see the daemon's log."
            )
