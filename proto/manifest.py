"""The bundle manifest: what export writes and the runtime executes.

A :class:`Manifest` that exists is valid: its rules are checked when it is built, by hand or from JSON. The
rules between its parts are in :mod:`saccade.proto.manifest_rules`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from saccade.proto import manifest_rules
from saccade.proto.answer_spec import AnswerSpec
from saccade.proto.bundle_kind import BundleKind
from saccade.proto.bundle_layout import MANIFEST_NAME, MAX_FILE_BYTES, MAX_MANIFEST_BYTES
from saccade.proto.closed_loop import ClosedLoopReceipt
from saccade.proto.errors import (
    BundleIntegrityError,
    ManifestError,
    UnknownLoweringError,
    UnknownProfileError,
)
from saccade.proto.file_errors import naming, read_text
from saccade.proto.instruction_spec import InstructionSpec
from saccade.proto.limits_rules import check_axis_limits
from saccade.proto.lowering_spec import CANONICAL, LoweringSpec
from saccade.proto.policy_spec import PolicySpec
from saccade.proto.strict_json import dump_json, from_json, parse_json
from saccade.proto.tensor_spec import TensorSpec
from saccade.proto.versions import check_bundle_version

MAX_IMAGE_SIDE_PX = 4096


@dataclass(frozen=True)
class ViewSpec:
    """One camera. Images are uint8 RGB, (height, width, 3).

    Args:
        name: Name of the view, unique in the bundle, e.g. ``scene``.
        height: Height of its images, pixels.
        width: Width of its images, pixels.
    """

    name: str
    height: int
    width: int

    def __post_init__(self) -> None:
        if not (1 <= self.height <= MAX_IMAGE_SIDE_PX and 1 <= self.width <= MAX_IMAGE_SIDE_PX):
            raise ManifestError(
                f"view {self.name!r}: expected 1..{MAX_IMAGE_SIDE_PX} pixels a side, "
                f"found {self.height}x{self.width}."
            )


@dataclass(frozen=True)
class VectorSpec:
    """A vector of named physical numbers.

    Args:
        names: Name of each dimension, e.g. ``x``.
        units: Unit of each dimension: SI (``m``, ``rad``), or ``1`` for plain numbers.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.units):
            raise ManifestError(
                f"expected one unit for each of {list(self.names)}, found {list(self.units)}."
            )

    @property
    def dim(self) -> int:
        """Number of dimensions."""
        return len(self.names)


@dataclass(frozen=True)
class SegmentSpec:
    """A run of positions in the decoder's sequence, e.g. ``visual`` with 200. Only ``text`` has padding.

    Args:
        name: Name of the segment, e.g. ``visual``.
        tokens: How many positions it has.
    """

    name: str
    tokens: int

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ManifestError(f"segment {self.name!r}: expected at least 1 token, found {self.tokens}.")


@dataclass(frozen=True)
class ActionSpec:
    """What an action is.

    Args:
        names: Name of each dimension, e.g. ``gripper``.
        units: Unit of each dimension: SI (``m``, ``rad``), or ``1`` for plain numbers.
        chunk: How many actions one chunk has, one control step apart.
        control_hz: Control steps per second.
        convention: How the numbers are meant, e.g. ``delta_ee``.
        relative: For each dimension whether the model's number counts from the proprioception of the same index as it
            was observed: the host adds that, so that what leaves it is absolute. Empty = none does.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    chunk: int
    control_hz: float
    convention: str
    relative: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if self.relative and len(self.relative) != len(self.names):
            raise ManifestError(
                f"expected relative for none or for each of {list(self.names)}, found {list(self.relative)}."
            )
        if len(self.names) != len(self.units):
            raise ManifestError(
                f"expected one unit for each of {list(self.names)}, found {list(self.units)}."
            )
        if self.chunk < 1 or self.control_hz <= 0:
            raise ManifestError(
                f"expected chunk >= 1 and control_hz > 0, found {self.chunk} and {self.control_hz}."
            )

    @property
    def dim(self) -> int:
        """Number of action dimensions."""
        return len(self.names)


@dataclass(frozen=True)
class CarrySpec:
    """A carry tensor and the value that reset fills it with; dtype and shape are in ``tensors``.

    Args:
        name: Name of the carry tensor.
        initial: Value that reset fills it with.
    """

    name: str
    initial: float


@dataclass(frozen=True)
class StageSpec:
    """One graph and its wiring.

    Args:
        name: Name of the stage, unique within the profile.
        graph: Path of the ONNX file.
        inputs: Names of tensors by the name of the graph's input.
        outputs: Names of tensors by the name of the graph's output; a carry is read by input ``x``, written by
            ``x.next``.
    """

    name: str
    graph: str
    inputs: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True)
class ProfileSpec:
    """One budget of visual tokens, compiled.

    Args:
        name: Name of the profile: ``full``, ``keep50`` ...
        keep: How many visual tokens survive the policy's last cut: the length of the kept set.
        keep_ratio: Nominal budget as a share of all visual tokens, above 0; 1 where all survive, and only there. What a
            policy does with its budget is its own rule, so the share that survives may be another.
        stages: Stages in the order in which they run.
        token_stages: Stages that run for each further token of an answer, in order; only in a bundle that answers.
        policy_config: Settings of the policy in this profile, where they are not the bundle's (a search found them);
            for people.
    """

    name: str
    keep: int
    keep_ratio: float
    stages: tuple[StageSpec, ...]
    token_stages: tuple[StageSpec, ...] = ()
    policy_config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GridSpec:
    """How visual tokens tile the views: index = (view * rows + row) * columns + column.

    A bundle that answers may count other views than pictures: parts of a tiled one, or pairs of frames.

    Args:
        views: How many views there are.
        rows: How many rows of tokens a view has.
        columns: How many columns of tokens a view has.
    """

    views: int
    rows: int
    columns: int

    def __post_init__(self) -> None:
        if min(self.views, self.rows, self.columns) < 1:
            raise ManifestError(f"expected views, rows and columns >= 1, found {self}.")

    @property
    def tokens(self) -> int:
        """Visual tokens of one observation."""
        return self.views * self.rows * self.columns


@dataclass(frozen=True)
class LimitsSpec:
    """What the limiter lets through, for each action dimension, in the action's units.

    Args:
        low: Smallest value of each action dimension.
        high: Largest value of each action dimension.
        max_change: Largest change of each action dimension from one control step to the next.
        margin: How far inside ``low`` and ``high`` the robot's side keeps each position; empty = at them.
        velocity: Largest speed of each dimension, its unit per second; empty = what ``max_change`` says.
        acceleration: Largest acceleration, unit per second squared; empty = unlimited, for deltas as ``max_change``
            says.
        jerk: Largest jerk, unit per second cubed; empty = unlimited.
        kinds: What each dimension is: ``linear``, ``angle``, three ``axis_angle`` or ``roll_pitch_yaw`` in a row, or
            ``discrete``; empty = a gripper beside deltas, or whose ``max_change`` is half of its range or more, is
            discrete, all others linear.

    Raises:
        ManifestError: A rule of :mod:`saccade.proto.limits_rules` is broken.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    max_change: tuple[float, ...]
    margin: tuple[float, ...] = ()
    velocity: tuple[float, ...] = ()
    acceleration: tuple[float, ...] = ()
    jerk: tuple[float, ...] = ()
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_axis_limits(self)


@dataclass(frozen=True)
class FileSpec:
    """Size and checksum of one file.

    Args:
        bytes: Size of the file, bytes.
        sha256: SHA-256 of the file, 64 lower-case hex digits.
    """

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ManifestError(f"sha256: expected 64 lower-case hex digits, found {self.sha256[:80]!r}.")
        if not 0 <= self.bytes <= MAX_FILE_BYTES:
            raise ManifestError(f"bytes: expected 0..{MAX_FILE_BYTES}, found {self.bytes}.")


NO_ACTION = ActionSpec((), (), chunk=1, control_hz=1.0, convention="none")
NO_LIMITS = LimitsSpec((), (), ())


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything the runtime knows of a bundle; the field order is the order in the file.

    Only a bundle that controls a robot has action, statistics, limits and proprioception; a scorer has no carry either.

    Args:
        format_version: Version of the bundle format, :data:`saccade.proto.versions.BUNDLE_FORMAT_VERSION`.
        kind: What the bundle is for: to control a robot, to score views, or to answer questions.
        name: Model name, e.g. ``saccade-mini``.
        family: Name of the model's architecture, e.g. ``openvla_oft``.
        license: SPDX identifier of the weights.
        created: When the bundle was exported, ISO 8601, for people.
        producer: Versions of the packages that exported the bundle, by name.
        views: Cameras in the order of the ``images`` tensor.
        proprio: Names and units of proprioception.
        instruction: How an instruction becomes tokens.
        sequence: Segments of the decoder's sequence, in order.
        action: Names and units of an action, and how many make a chunk.
        noise_dim: How many standard normal numbers the host draws for each action of a chunk in each control step; 0 =
            actions are not drawn out of noise.
        answer: How an answer is generated; None in a bundle that does not answer.
        statistics: Path of the statistics file within the bundle; empty = there is none.
        statistics_key: Name of the data set in the statistics file.
        tensors: Every tensor that stages and host exchange.
        carry: Initial values of the carry tensors.
        profiles: Budgets of visual tokens to choose from; ``full`` is one of them.
        policy: The token-selection policy inside the graphs.
        grid: How visual tokens tile the views.
        limits: Bounds that the limiter enforces.
        files: Every file of the bundle but the manifest.
        lowerings: Other forms of the graphs to choose from.
        closed_loop: How often each profile did each task in the closed loop; None = nobody wrote it down.

    Raises:
        ManifestError: The parts do not fit together.
    """

    format_version: int
    kind: BundleKind = BundleKind.CONTROL
    name: str
    family: str
    license: str
    created: str
    producer: dict[str, str]
    views: tuple[ViewSpec, ...]
    proprio: VectorSpec
    instruction: InstructionSpec
    sequence: tuple[SegmentSpec, ...]
    action: ActionSpec = NO_ACTION
    noise_dim: int = 0
    answer: AnswerSpec | None = None
    statistics: str = ""
    statistics_key: str = ""
    tensors: tuple[TensorSpec, ...]
    carry: tuple[CarrySpec, ...]
    profiles: tuple[ProfileSpec, ...]
    policy: PolicySpec
    grid: GridSpec
    limits: LimitsSpec = NO_LIMITS
    files: dict[str, FileSpec]
    lowerings: tuple[LoweringSpec, ...] = ()
    closed_loop: ClosedLoopReceipt | None = None

    def __post_init__(self) -> None:
        check_bundle_version(self.format_version)
        manifest_rules.check(self)

    def profile(self, name: str) -> ProfileSpec:
        """Return the profile called ``name``.

        Raises:
            UnknownProfileError: The bundle has no profile of that name.
        """
        for profile in self.profiles:
            if profile.name == name:
                return profile
        known = ", ".join(profile.name for profile in self.profiles)
        raise UnknownProfileError(f"expected a profile of this bundle ({known}), found {name!r}.")

    @property
    def graphs(self) -> tuple[str, ...]:
        """Paths of the canonical graphs, each once, in the order of profiles and stages."""
        stages = (stage for profile in self.profiles for stage in (*profile.stages, *profile.token_stages))
        return tuple(dict.fromkeys(stage.graph for stage in stages))

    def lowered(self, name: str) -> dict[str, str]:
        """Return the paths of a lowering's graphs by those of the canonical ones.

        Args:
            name: Name of the lowering; :data:`CANONICAL` = the canonical graphs themselves.

        Raises:
            UnknownLoweringError: The bundle has no lowering of that name.
        """
        if name == CANONICAL:
            return {graph: graph for graph in self.graphs}
        for lowering in self.lowerings:
            if lowering.name == name:
                return lowering.graphs
        known = ", ".join((CANONICAL, *(lowering.name for lowering in self.lowerings)))
        raise UnknownLoweringError(
            f"expected a lowering of this bundle ({known}), found {name!r}: make it with `saccade lower`."
        )

    def tensor(self, name: str) -> TensorSpec:
        """Return the specification of tensor ``name``.

        Raises:
            ManifestError: The manifest declares no such tensor.
        """
        for spec in self.tensors:
            if spec.name == name:
                return spec
        raise ManifestError(f"$.tensors: expected a tensor named {name!r}, found none.")


def manifest_from_json(text: str) -> Manifest:
    """Read a manifest; the format version is judged before anything else.

    Args:
        text: Content of ``manifest.json``.

    Raises:
        BundleVersionError: The bundle has another format version than this build reads.
        ManifestError: The text is not JSON, or a rule is broken; the message names the JSON path.
    """
    value = parse_json(text)
    if not isinstance(value, dict) or type(value.get("format_version")) is not int:
        raise ManifestError("$.format_version: expected an integer at the top of the manifest, found none.")
    check_bundle_version(value["format_version"])
    return from_json(Manifest, value)


def manifest_to_json(manifest: Manifest) -> str:
    """Write a manifest; :func:`manifest_from_json` gives back an equal one."""
    return dump_json(manifest)


def read_manifest(bundle: Path) -> Manifest:
    """Read ``bundle/manifest.json``.

    Args:
        bundle: Directory of the bundle.

    Raises:
        BundleIntegrityError: There is no such file, or it is too large.
        BundleVersionError: The bundle has another format version than this build reads.
        ManifestError: A rule is broken.
        FileError: The operating system refuses to read it.
    """
    path = bundle / MANIFEST_NAME
    if not path.is_file():
        raise BundleIntegrityError(f"expected a bundle with {MANIFEST_NAME}, found none at {path}.")
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleIntegrityError(
            f"expected {MANIFEST_NAME} of at most {MAX_MANIFEST_BYTES} bytes, found {path.stat().st_size}."
        )
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        raise ManifestError(f"expected {MANIFEST_NAME} in UTF-8, found other bytes: {error}.") from error
    return manifest_from_json(text)


def write_manifest(manifest: Manifest, bundle: Path) -> Path:
    """Write ``bundle/manifest.json``, whole or not at all, and return its path.

    Args:
        manifest: What is written.
        bundle: Directory of the bundle.

    Raises:
        FileError: The operating system refuses to write it, or beside the bundle.
    """
    path, text = bundle / MANIFEST_NAME, manifest_to_json(manifest)
    with naming(path), TemporaryDirectory(prefix=f".{bundle.name}.manifest-", dir=bundle.parent) as beside:
        whole = Path(beside) / MANIFEST_NAME
        whole.write_text(text, encoding="utf-8")
        whole.replace(path)
    return path
