"""The program executor: runs the stages of a profile on bound buffers and owns the carry.

Every tensor of the manifest gets its buffer once, when the bundle is loaded. A carry has two: a step reads one
and writes the other, and :meth:`ProgramExecutor.commit` swaps their parts. So the carry never passes through
Python, and a step that is refused leaves it as it was. All profiles share the buffers, so one may follow another
with no reload and no copy. Task tensors are written when a task begins and stay where they are until the next. Caches
of an answer have two buffers too: the prompt fills the first, each further token reads one and writes the other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saccade.proto.errors import BundleError, EngineError
from saccade.proto.lowering_spec import CANONICAL
from saccade.proto.manifest import Manifest, ProfileSpec, StageSpec
from saccade.proto.statistics import Statistics
from saccade.proto.tensor_names import (
    ATTENTION_MASK,
    IMAGES,
    LOGITS,
    POSITION_IDS,
    TOKEN,
    TOKEN_IDS,
    TOKEN_POSITION,
)
from saccade.proto.tensor_spec import TensorRole, TensorSpec
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.base import Backend, Buffer, Engine, Run
from saccade.runtime.tokens import InstructionTokens

_SIDES = 2
_WARM_UP_STEPS = 2
_UNTIL_SET = 1
"""What fills a task tensor at the beginning of a task."""


@dataclass(frozen=True)
class _LoadedProfile:
    """A profile, loaded.

    Args:
        runs: For each side of the carry, the stages' runs.
        token_runs: For each side of the caches, the runs of a further token.
        results: To read after a step.
        writes_carry: A step hands something to the next.
    """

    runs: tuple[tuple[tuple[str, Run], ...], ...]
    token_runs: tuple[tuple[tuple[str, Run], ...], ...]
    results: Mapping[str, Buffer]
    writes_carry: bool


class _Sides(NamedTuple):
    """Which of their two buffers a run reads and writes."""

    carry_read: int
    carry_written: int
    cache_read: int
    cache_written: int


class ProgramExecutor:
    """Everything one session needs to run any profile of a bundle. Not safe to share between threads.

    Args:
        bundle: A verified bundle; it is not kept.
        backend: What executes its graphs; the caller closes it.
        lowering: Name of the form of the graphs that runs, one of the bundle's.

    Attributes:
        tokens: Tokeniser of the bundle's instructions.
        statistics: Scales of proprioception and actions; a scorer's are empty.

    Raises:
        UnknownLoweringError: The bundle has no lowering of that name.
        EngineError: A graph cannot be loaded.
        BundleError: A graph's ports are not what the manifest wires, or the tokenizer cannot be read.
        StatisticsError: The statistics cannot be read.
    """

    def __init__(self, bundle: Bundle, backend: Backend, *, lowering: str = CANONICAL) -> None:
        self.manifest: Manifest = bundle.manifest
        self.engine_name = backend.name if lowering == CANONICAL else f"{backend.name}/{lowering}"
        manifest = bundle.manifest
        self.tokens = InstructionTokens(
            bundle.read(manifest.instruction.tokenizer), manifest.instruction, manifest.sequence
        )
        self.statistics = read_statistics(bundle)
        self._backend = backend
        self._side = self._cache_side = 0
        self._ran: _LoadedProfile | None = None
        self._buffers: dict[tuple[str, tuple[int, ...], int], Buffer] = {}
        lowered = manifest.lowered(lowering)
        loaded = backend.load(lowered.values(), bundle.files)
        engines = {graph: loaded[path] for graph, path in lowered.items()}
        self._programs = {profile.name: self._bound(profile, engines) for profile in manifest.profiles}
        self.inputs: dict[str, NDArray[Any]] = {
            spec.name: self._buffer(spec).host
            for spec in self.manifest.tensors
            if spec.role is TensorRole.HOST
        }
        """Host tensors by name: write into them in place before :meth:`step`."""
        self.reset()

    def reset(self) -> None:
        """Begin a task: fill every carry with its initial value, and every task tensor with ones."""
        self._ran = None
        for spec in self.manifest.tensors:
            if spec.role is TensorRole.TASK:
                self.set_task(spec.name, _UNTIL_SET)
        for carry in self.manifest.carry:
            buffer = self._buffer(self.manifest.tensor(carry.name), self._side)
            buffer.host.fill(carry.initial)
            buffer.to_device()

    def read_carry(self) -> dict[str, NDArray[Any]]:
        """Return a copy of what the next step reads of the last one, by the name of the carry tensor, batch first."""
        found = {}
        for carry in self.manifest.carry:
            buffer = self._buffer(self.manifest.tensor(carry.name), self._side)
            buffer.to_host()
            found[carry.name] = buffer.host.copy()
        return found

    def write_carry(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Set what the next step reads of the last one, as another executor of the same bundle has it.

        Args:
            values: All carry tensors by name, as :meth:`read_carry` returns them.
        """
        for name, value in values.items():
            buffer = self._buffer(self.manifest.tensor(name), self._side)
            buffer.host[...] = value
            buffer.to_device()

    def set_task(self, name: str, values: ArrayLike) -> None:
        """Set a task tensor, from the next step until the next reset.

        Args:
            name: Name of a task tensor of the manifest.
            values: Numbers that broadcast to the tensor's shape.
        """
        buffer = self._buffer(self.manifest.tensor(name))
        buffer.host[...] = values
        buffer.to_device()

    def set_instruction(self, instruction: str, state: str = "") -> tuple[str, ...]:
        """Write what the graphs need to know of an instruction into the host tensors.

        Args:
            instruction: What to do, or a question.
            state: The robot's state as text, where the prompt tells it; else empty.

        Returns:
            Parts of the instruction that the tokenizer has no token for.

        Raises:
            InstructionError: The instruction is empty, too long, no Unicode text, of unknown words only, or has a token
                that the model lacks.
        """
        tokens = self.tokens.encode(instruction, state)
        tokens.check_known(instruction)
        for name in (TOKEN_IDS, ATTENTION_MASK, POSITION_IDS):
            if name in self.inputs:
                self.inputs[name][...] = getattr(tokens, name)
        return tokens.unknown

    def set_images(self, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Write images into the host tensor, if the graphs look at any.

        Args:
            images: Views by name, uint8 ``(height, width, 3)``, or several pictures for one view ``(pictures, height,
                width, 3)``, of the tensor's size.
        """
        if IMAGES in self.inputs:
            taken = self.inputs[IMAGES][0]
            each = len(taken) // len(self.manifest.views)
            for index, view in enumerate(self.manifest.views):
                taken[index * each : (index + 1) * each] = images[view.name]

    def step(self, profile: str, timings_ns: dict[str, int]) -> dict[str, NDArray[Any]]:
        """Run a profile on the current inputs and carry.

        Args:
            profile: Name of a profile of the manifest.
            timings_ns: Gets the duration of each stage, nanoseconds, as ``stage.<name>``.

        Returns:
            Result tensors by name, batch first; views that are valid until the next step.

        Raises:
            UnknownProfileError: The bundle has no such profile.
            EngineError: An engine failed; the carry is as it was.
        """
        program = self._programs.get(profile)
        if program is None:
            self.manifest.profile(profile)
            raise EngineError(f"expected profile {profile!r} to be loaded, found it is not.")
        self._ran = None
        for spec in self.manifest.tensors:
            if spec.role is TensorRole.HOST:
                self._buffer(spec).to_device()
        _run_all(program.runs[self._side], timings_ns)
        self._cache_side = 0
        self._ran = program
        for buffer in program.results.values():
            buffer.to_host()
        return {name: buffer.host for name, buffer in program.results.items()}

    def next_token(
        self, profile: str, token: int, position: int, timings_ns: dict[str, int]
    ) -> NDArray[np.float32]:
        """Run a further token of an answer behind the prompt that :meth:`step` ran.

        Args:
            profile: Name of the profile that ran the prompt.
            token: Id of the last token of the answer.
            position: Rotary position of that token.
            timings_ns: Gets the duration of each stage, nanoseconds, as ``stage.<name>``.

        Returns:
            Logits of the token that follows, float32 ``(vocab_size,)``: a view, valid until the next token.

        Raises:
            EngineError: An engine failed.
        """
        program = self._programs[profile]
        for name, value in ((TOKEN, token), (TOKEN_POSITION, position)):
            self.inputs[name][...] = value
            self._buffer(self.manifest.tensor(name)).to_device()
        _run_all(program.token_runs[self._cache_side], timings_ns)
        self._cache_side = 1 - self._cache_side
        logits = program.results[LOGITS]
        logits.to_host()
        found: NDArray[np.float32] = logits.host[0]
        return found

    def commit(self) -> None:
        """Make the carry that the last step wrote the current one; without it the step leaves no trace."""
        if self._ran is not None and self._ran.writes_carry:
            self._side = 1 - self._side
        self._ran = None

    def warm_up(self) -> None:
        """Run every profile on zeros, so that no later step pays for first-time work; the carry stays as it is."""
        for name in self._programs:
            for _ in range(_WARM_UP_STEPS):
                self.step(name, {})
                if self._programs[name].token_runs[0]:
                    self.next_token(name, 0, 0, {})

    def _bound(self, profile: ProfileSpec, engines: Mapping[str, Engine]) -> _LoadedProfile:
        def bound(stages: tuple[StageSpec, ...], sides: _Sides) -> tuple[tuple[str, Run], ...]:
            return tuple(
                (stage.name, self._bind(engines[stage.graph], stage, profile.keep, sides)) for stage in stages
            )

        runs = tuple(bound(profile.stages, _Sides(side, 1 - side, 1, 0)) for side in range(_SIDES))
        token_runs = tuple(
            bound(profile.token_stages, _Sides(0, 0, side, 1 - side)) for side in range(_SIDES)
        )
        written = [self.manifest.tensor(name) for stage in profile.stages for name in stage.outputs.values()]
        results = {
            spec.name: self._buffer(spec.resolve(keep=profile.keep))
            for spec in written
            if spec.role is TensorRole.RESULT
        }
        return _LoadedProfile(
            runs, token_runs, results, any(spec.role is TensorRole.CARRY for spec in written)
        )

    def _bind(self, engine: Engine, stage: StageSpec, keep: int, sides: _Sides) -> Run:
        def buffers(wiring: dict[str, str], carry_side: int, cache_side: int) -> dict[str, Buffer]:
            specs = {port: self.manifest.tensor(name).resolve(keep=keep) for port, name in wiring.items()}
            side = {TensorRole.CARRY: carry_side, TensorRole.CACHE: cache_side}
            return {port: self._buffer(spec, side.get(spec.role, 0)) for port, spec in specs.items()}

        try:
            return engine.bind(
                buffers(stage.inputs, sides.carry_read, sides.cache_read),
                buffers(stage.outputs, sides.carry_written, sides.cache_written),
            )
        except EngineError as error:
            raise BundleError(f"{stage.graph}: the manifest and the graph disagree: {error}") from error

    def _buffer(self, spec: TensorSpec, side: int = 0) -> Buffer:
        key = (spec.name, spec.shape, side)
        if key not in self._buffers:
            self._buffers[key] = self._backend.allocate(spec.dtype, spec.shape)
        return self._buffers[key]


def _run_all(runs: tuple[tuple[str, Run], ...], timings_ns: dict[str, int]) -> None:
    for name, run in runs:
        started = time.monotonic_ns()
        run()
        timings_ns[f"stage.{name}"] = time.monotonic_ns() - started


def read_statistics(bundle: Bundle) -> Statistics:
    """Return the scales of a bundle; one that moves nothing has empty ones.

    Args:
        bundle: A verified bundle.

    Raises:
        StatisticsError: The statistics cannot be read.
    """
    manifest = bundle.manifest
    if not manifest.statistics:
        return Statistics.empty()
    return Statistics.parse(
        bundle.read(manifest.statistics),
        manifest.statistics_key,
        manifest.statistics,
        action_dim=manifest.action.dim,
        proprio_dim=manifest.proprio.dim,
    )
