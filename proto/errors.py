"""The one error tree of Saccade.

    SaccadeError
    ├── VersionError                    the other side speaks a version that this build does not
    ├── BundleError                     the bundle on disk cannot be trusted or used
    │   ├── ManifestError               manifest.json breaks a rule; the message names the JSON path
    │   ├── BundleVersionError          the bundle has another format version
    │   └── BundleIntegrityError        a file is missing, extra, changed, or points outside the bundle
    ├── StatisticsError                 statistics.json of a checkpoint or bundle is incomplete or broken
    ├── EngineError                     an engine cannot load or run a graph
    │   ├── PlanError                   a plan for the GPU is missing, of another machine, or damaged
    │   └── ParityError                 an engine computes something else than ONNX Runtime on the CPU
    ├── UnknownProfileError             the bundle has no profile of that name
    ├── UnknownLoweringError            the bundle has no lowering of that name
    ├── InputError                      the caller gave something unusable; nothing was run
    │   ├── AddressError                an address is not host:port
    │   ├── TensorError                 wrong name, dtype, shape or value of a tensor
    │   ├── ObservationError            the observation as a whole is incomplete or malformed
    │   │   ├── ImageError              an image is missing, unknown, of wrong size or dtype
    │   │   ├── ProprioError            proprioception has the wrong width or dtype, is not finite or far off
    │   │   ├── StaleObservationError   the observation is too old to act upon
    │   │   ├── FrozenCameraError       a camera delivers the same image again and again
    │   │   └── SupersededError         a newer observation arrived before this one was used
    │   ├── InstructionError            the instruction is empty, too long, no Unicode text or unknown
    │   ├── LimitsError                 an operator's limits widen the bundle's, or are not for its axes
    │   ├── ViewScoresError             the view scores are not what the bundle can use
    │   ├── VideoError                  a video cannot be read, or the bundle takes none
    │   └── QuestionError               a question cannot be answered as it was asked
    │       └── AnswererBusyError       another question is being answered
    ├── SessionError                    the session is not in a state to do this
    │   ├── NoSessionError              no session of that token is open
    │   ├── SessionNotResetError        act was called before reset gave an instruction
    │   ├── ViewsUnscoredError          the view scorer still looks at the first observation of the task
    │   ├── LeaseHeldError              another client owns the robot
    │   └── StoppedError                the stop latch is set
    ├── ActionRefusedError              the limiter refused a whole chunk
    ├── LateChunkError                  the chunk is later than its observation may be old
    ├── ServeError                      the daemon cannot start or go on
    │   ├── AddressInUseError           the port is taken
    │   ├── InsecureBindError           a bind beyond loopback was not asked for explicitly
    │   ├── DrainingError               the daemon is shutting down
    │   └── InternalError               a defect of the daemon; the log has the details
    ├── TransportError                  the call did not get through
    │   ├── UnavailableError            nobody answers at the address
    │   │   └── UnknownHostError        the address names a host that is not known here
    │   ├── ProtocolError               what answers at the address is not what the client speaks
    │   ├── ForkError                   a client is used in a fork of the process that made it
    │   ├── DeadlineError               no answer within the deadline
    │   └── MessageError                a message is too large or cannot be decoded
    ├── FileError                       a file or folder cannot be read or written
    ├── CheckpointError                 a checkpoint is incomplete, left-over keys included
    ├── SelfTestError                   a part of a self-test found something wrong, or ended without saying why
    ├── DeviceError                     no such device is known, or it has no such arithmetic
    ├── PolicyError                     a token-selection policy is unknown or badly configured
    ├── ExportError                     the exporter cannot build the graph
    │   └── ReceiptError                a check of the export failed or did not run
    └── SimulatorError                  the simulator cannot run
        ├── UnknownTaskError            no task of that name
        ├── GraphicsError               no way to render on this machine
        └── SweepError                  a sweep cannot go on: other versions, or too many lost workers

A message says what was expected, what was found and what to do. ``code`` travels on the wire and never
changes.
"""

from __future__ import annotations

from typing import ClassVar


class SaccadeError(Exception):
    """Base of every error that Saccade raises on purpose."""

    code: ClassVar[str] = "error"

    @property
    def message(self) -> str:
        """The whole sentence meant for a person."""
        return str(self.args[0]) if self.args else self.code


class VersionError(SaccadeError):
    """The other side speaks a version that this build does not."""

    code = "version"


class BundleError(SaccadeError):
    """The bundle on disk cannot be trusted or used."""

    code = "bundle"


class ManifestError(BundleError):
    """manifest.json breaks a rule; the message names the JSON path."""

    code = "bundle.manifest"


class BundleVersionError(BundleError):
    """The bundle has another format version."""

    code = "bundle.version"


class BundleIntegrityError(BundleError):
    """A file is missing, extra, changed, or points outside the bundle."""

    code = "bundle.integrity"


class StatisticsError(SaccadeError):
    """statistics.json of a checkpoint or bundle is incomplete or broken."""

    code = "statistics"


class EngineError(SaccadeError):
    """An engine cannot load or run a graph."""

    code = "engine"


class PlanError(EngineError):
    """A plan for the GPU is missing, was built for another machine or by another version, or is damaged."""

    code = "engine.plan"


class ParityError(EngineError):
    """An engine computes something else than ONNX Runtime on the CPU."""

    code = "engine.parity"


class UnknownProfileError(SaccadeError):
    """The bundle has no profile of that name."""

    code = "profile.unknown"


class UnknownLoweringError(SaccadeError):
    """The bundle has no lowering of that name."""

    code = "lowering.unknown"


class InputError(SaccadeError):
    """The caller gave something unusable; nothing was run."""

    code = "input"


class AddressError(InputError):
    """An address is not host:port."""

    code = "input.address"


class TensorError(InputError):
    """Wrong name, dtype, shape or value of a tensor."""

    code = "input.tensor"


class ObservationError(InputError):
    """The observation as a whole is incomplete or malformed."""

    code = "observation"


class ImageError(ObservationError):
    """An image is missing, unknown, or of another size or dtype."""

    code = "observation.image"


class ProprioError(ObservationError):
    """Proprioception has the wrong width or is not finite."""

    code = "observation.proprio"


class StaleObservationError(ObservationError):
    """The observation is too old to act upon."""

    code = "observation.stale"


class FrozenCameraError(ObservationError):
    """A camera delivers the same image again and again."""

    code = "observation.frozen"


class SupersededError(ObservationError):
    """A newer observation arrived before this one was used."""

    code = "observation.superseded"


class InstructionError(InputError):
    """The instruction is empty, too long, no Unicode text, of unknown words, or has a token that the model lacks."""

    code = "instruction"


class LimitsError(InputError):
    """An operator's limits are wider than the bundle's, or not for its axes."""

    code = "input.limits"


class ViewScoresError(InputError):
    """The view scores are not what the bundle can use."""

    code = "input.view_scores"


class VideoError(InputError):
    """A video cannot be read, or the bundle takes none."""

    code = "input.video"


class QuestionError(InputError):
    """A question cannot be answered as it was asked."""

    code = "question"


class AnswererBusyError(QuestionError):
    """Another question is being answered."""

    code = "question.busy"


class SessionError(SaccadeError):
    """The session is not in a state to do this."""

    code = "session"


class NoSessionError(SessionError):
    """No session of that token is open."""

    code = "session.none"


class SessionNotResetError(SessionError):
    """A session was asked to act before reset gave an instruction."""

    code = "session.not_reset"


class ViewsUnscoredError(SessionError):
    """The view scorer still looks at the first observation of the task."""

    code = "session.views_unscored"


class LeaseHeldError(SessionError):
    """Another client owns the robot."""

    code = "session.lease_held"


class StoppedError(SessionError):
    """The stop latch is set."""

    code = "session.stopped"


class ActionRefusedError(SaccadeError):
    """The limiter refused a whole chunk."""

    code = "action.refused"


class LateChunkError(SaccadeError):
    """The chunk is later than its observation may be old."""

    code = "action.late"


class ServeError(SaccadeError):
    """The daemon cannot start or go on."""

    code = "serve"


class AddressInUseError(ServeError):
    """The port is taken."""

    code = "serve.address_in_use"


class InsecureBindError(ServeError):
    """A bind beyond loopback was not asked for explicitly."""

    code = "serve.insecure_bind"


class DrainingError(ServeError):
    """The daemon is shutting down."""

    code = "serve.draining"


class InternalError(ServeError):
    """A defect of the daemon; the log has the details."""

    code = "serve.internal"


class TransportError(SaccadeError):
    """The call did not get through."""

    code = "transport"


class UnavailableError(TransportError):
    """Nobody answers at the address."""

    code = "transport.unavailable"


class UnknownHostError(UnavailableError):
    """The address names a host that is not known here."""

    code = "transport.unknown_host"


class ProtocolError(TransportError):
    """What answers at the address is not what the client speaks."""

    code = "transport.protocol"


class ForkError(TransportError):
    """A client is used in a fork of the process that made it."""

    code = "transport.fork"


class DeadlineError(TransportError):
    """No answer came within the deadline."""

    code = "transport.deadline"


class MessageError(TransportError):
    """A message is too large or cannot be decoded."""

    code = "transport.message"


class FileError(SaccadeError):
    """A file or folder cannot be read or written."""

    code = "file"


class CheckpointError(SaccadeError):
    """A checkpoint is incomplete, left-over keys included."""

    code = "checkpoint"


class SelfTestError(SaccadeError):
    """A part of a self-test found something wrong, or ended without saying why."""

    code = "selftest"


class DeviceError(SaccadeError):
    """No such device is known, or it has no such arithmetic."""

    code = "device"


class PolicyError(SaccadeError):
    """A token-selection policy is unknown or badly configured."""

    code = "policy"


class ExportError(SaccadeError):
    """The exporter cannot build the graph."""

    code = "export"


class ReceiptError(ExportError):
    """A check of the export failed or did not run."""

    code = "export.receipt"


class SimulatorError(SaccadeError):
    """The simulator cannot run."""

    code = "simulator"


class UnknownTaskError(SimulatorError):
    """No task has that name."""

    code = "simulator.unknown_task"


class GraphicsError(SimulatorError):
    """There is no way to render on this machine."""

    code = "simulator.graphics"


class SweepError(SimulatorError):
    """A sweep cannot go on: what is there was made by other versions, or workers were lost too often."""

    code = "simulator.sweep"


def _tree(root: type[SaccadeError]) -> list[type[SaccadeError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


_BY_CODE = {kind.code: kind for kind in _tree(SaccadeError)}


def error_from_code(code: str, message: str) -> SaccadeError:
    """Rebuild an error that arrived over the wire.

    A code that this build does not know falls back to its nearest known ancestor: ``session.new`` becomes
    ``session``.

    Args:
        code: Stable code of the error.
        message: The whole sentence meant for a person.
    """
    parent = code
    while parent not in _BY_CODE and "." in parent:
        parent = parent.rpartition(".")[0]
    return _BY_CODE.get(parent, SaccadeError)(message)
