"""One robot's stream of control steps, in process."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import BundleError, ProprioError, SessionNotResetError, ViewsUnscoredError
from saccade.proto.manifest import Manifest
from saccade.proto.manifest_rules import answers, is_scorer
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.state_text import state_text
from saccade.proto.tensor_names import ACTIONS, ENCODED_AGES, FATE, KEPT, NOISE, PROPRIO, VIEW_SCORES
from saccade.runtime.clock import Clock, monotonic_ns
from saccade.runtime.deadline.chooser import ProfileChooser
from saccade.runtime.guards.camera_cut import CameraCutDetector
from saccade.runtime.guards.far_proprio import FarProprio
from saccade.runtime.guards.frozen_camera import FrozenCameraDetector
from saccade.runtime.guards.limiter import Limiter
from saccade.runtime.guards.motion_gate import MotionGate
from saccade.runtime.guards.observation_check import check_observation
from saccade.runtime.guards.seam_limiter import SeamLimiter
from saccade.runtime.guards.staleness import check_age, check_in_time, check_order
from saccade.runtime.noise import draw_noise
from saccade.runtime.observation import ActionChunk, Observation, Telemetry
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.scoring.view_scores import TaskScoring, ViewScorer, ordered_view_scores

_DROPPED = -1
"""Fate of a token that nothing carries."""


class Session:
    """Turns observations into action chunks; the same two methods as the client's session.

    Args:
        program: Executor of the bundle, which owns buffers and carry; used by one session at a time.
        profile: Name of the profile that runs where a step names none.
        max_age_ns: Oldest observation that is used, and latest chunk that is returned, nanoseconds after capture; None
            = any age.
        max_frozen_frames: Refuse a view that repeated itself in this many frames in a row; 0 = never.
        refuses_far_proprio: Whether to refuse proprioception far outside the statistics; False = only name it in the
            chunk.
        clock: Returns monotonic nanoseconds.
        scorer: Scores the views once per task, where reset gives no scores; None leaves them at 1.
        noise_seed: Seed of the noise, for a bundle that draws actions out of noise; the noise of an episode follows
            from it and from how many resets came before.
        chooser: Chooses the profile of each control step by a deadline, that which is asked for at most; None = what is
            asked for runs.
        seams: Limits each chunk from the commands before it; None = each chunk is limited by itself alone.

    Raises:
        BundleError: The bundle controls no robot.
        UnknownProfileError: The bundle has no such profile.
    """

    def __init__(  # noqa: PLR0913
        self,
        program: ProgramExecutor,
        *,
        profile: str = FULL_PROFILE,
        max_age_ns: int | None = None,
        max_frozen_frames: int = 0,
        refuses_far_proprio: bool = False,
        clock: Clock = monotonic_ns,
        scorer: ViewScorer | None = None,
        noise_seed: int = 0,
        chooser: ProfileChooser | None = None,
        seams: SeamLimiter | None = None,
    ) -> None:
        manifest = program.manifest
        check_controls(manifest)
        self._program = program
        self._manifest = manifest
        self._profile = manifest.profile(profile).name
        self._max_age_ns = max_age_ns
        self._clock = clock
        self._frozen = FrozenCameraDetector(max_frozen_frames)
        self._far = FarProprio(
            program.statistics.proprio, manifest.proprio.names, is_refused=refuses_far_proprio
        )
        self._limiter = Limiter(manifest.limits, manifest.action.names)
        self._seams = seams
        self._period_ns = round(1e9 / manifest.action.control_hz)
        self._relative = np.flatnonzero(manifest.action.relative)
        gate = manifest.policy.gate
        self._gate = None if gate is None else MotionGate(gate, manifest.action)
        camera_cut = manifest.policy.camera_cut
        self._camera_cut = None if camera_cut is None else CameraCutDetector(camera_cut)
        self._chooser = chooser
        self._scorer = scorer
        self._scoring: TaskScoring | None = None
        self._instruction = ""
        self._steps = 0
        self._sequence = 0
        self._noise_seed = noise_seed
        self._episode = -1

    def reset(self, instruction: str, *, view_scores: Mapping[str, float] | None = None) -> tuple[str, ...]:
        """Start an episode: set the instruction, restore the carry, count control steps from 0.

        Args:
            instruction: What the arm shall do.
            view_scores: How much each view matters, by name; given ones win over the scorer. None or empty = not told.

        Returns:
            Parts of the instruction that the tokenizer has no token for; the model cannot tell them from one another.

        Raises:
            InstructionError: The instruction is empty, too long, no Unicode text, of unknown words only, or has a token
                that the model lacks.
            ViewScoresError: The scores are not for all views, one is negative or not finite, or the policy reads none.
        """
        scores = ordered_view_scores(view_scores, self._manifest) if view_scores else None
        scorer = self._scorer if scores is None else None
        if scorer is not None:
            scorer.check(instruction)
        unknown = self._set_instruction(instruction, np.zeros(self._manifest.proprio.dim, np.float32))
        self._program.reset()
        if scores is not None:
            self._program.set_task(VIEW_SCORES, scores)
        self._scoring = None if scorer is None else scorer.begin(instruction)
        self._frozen.reset()
        if self._gate is not None:
            self._gate.reset()
        if self._camera_cut is not None:
            self._camera_cut.reset()
        if self._chooser is not None:
            self._chooser.reset()
        if self._seams is not None:
            self._seams.reset()
        self._instruction = instruction
        self._steps = 0
        self._sequence = 0
        self._episode += 1
        return unknown

    def act(self, observation: Observation, profile: str | None = None) -> ActionChunk:
        """Run one control step; in the first one of a task wait for the view scorer, as long as the observation lasts.

        Args:
            observation: Images and the rest, see :meth:`step`.
            profile: Name of the profile that runs in this step; None = the session's.

        Raises:
            SaccadeError: What :meth:`step` raises.
        """
        try:
            return self.step(observation, profile)
        except ViewsUnscoredError:
            if not self.wait_for_scores(self.time_left_s(observation.captured_ns)):
                raise
            return self.step(observation, profile)

    def step(self, observation: Observation, profile: str | None = None) -> ActionChunk:
        """Run one control step, and wait for nobody.

        Args:
            observation: Images of all views, proprioception, and when they were captured.
            profile: Name of the profile that runs in this step, with a deadline the largest that may; None = the
                session's. Warm-up and refresh steps run ``full`` anyway, and so does every step while the motion gate,
                if the policy has one, finds the arm slow, or at which a view shows another picture, if the policy asks
                for that.

        Raises:
            SessionNotResetError: No instruction was given yet.
            ViewsUnscoredError: The view scorer looks at this observation, or still at the first one of the task.
            UnknownProfileError: The bundle has no such profile.
            ObservationError: The observation is stale, out of order, from a frozen camera, or unusable; nothing was
                run.
            ActionRefusedError: The limiter refused the chunk; the carry is as before the step.
            LateChunkError: The step took too long; the carry is as before the step.
            EngineError: The engine failed, or the scorer did.
        """
        if not self._instruction:
            raise SessionNotResetError(
                "expected reset(instruction) before the first observation, found none."
            )
        timings_ns: dict[str, int] = {}
        started = time.monotonic_ns()
        asked = self._manifest.profile(profile or self._profile).name
        check_order(observation.sequence, self._sequence)
        check_age(self._clock() - observation.captured_ns, self._max_age_ns)
        check_observation(observation, self._manifest)
        far_proprio = self._far.find(observation.proprio)
        self._score_views(observation, timings_ns)
        preparing = time.monotonic_ns()
        self._frozen.check(observation.images)
        choice = None
        if self._chooser is not None:
            choice = self._chooser.choose(asked, self._clock() - observation.captured_ns, observation.images)
        chosen = (
            FULL_PROFILE if self._must_be_full(observation) else asked if choice is None else choice.profile
        )
        self._write(observation)
        timings_ns["prepare"] = time.monotonic_ns() - preparing
        results = self._program.step(chosen, timings_ns)
        if self._chooser is not None:
            # A step whose chunk is dropped as late counts too: it must not be so slow again.
            self._chooser.note(chosen, time.monotonic_ns() - preparing)
        finishing = time.monotonic_ns()
        actions, clamped = self._limiter.limit(self._physical(results[ACTIONS][0], observation))
        actions, moved, limited = self._follow_on(actions, observation)
        check_in_time(self._clock() - observation.captured_ns, self._max_age_ns, "ready")
        telemetry = self._telemetry(results) if observation.wants_telemetry else None
        self._commit(observation, actions)
        finished = time.monotonic_ns()
        if choice is not None:
            choice = dataclasses.replace(choice, ready_ns=max(1, self._clock() - observation.captured_ns))
        timings_ns |= {"finish": finished - finishing, "session": finished - started}
        return ActionChunk(
            actions=actions,
            profile=chosen,
            clamped=clamped + moved,
            far_proprio=far_proprio,
            sequence=observation.sequence,
            captured_ns=observation.captured_ns,
            timings_ns=timings_ns,
            telemetry=telemetry,
            choice=choice,
            valid_from_ns=observation.captured_ns,
            expires_ns=observation.captured_ns + len(actions) * self._period_ns,
            limited=limited,
        )

    def wait_for_scores(self, timeout_s: float) -> bool:
        """Wait until the task's views are scored, and say whether they are. Safe between threads.

        Args:
            timeout_s: Longest wait, seconds.
        """
        scoring = self._scoring
        return scoring is None or scoring.wait(timeout_s)

    def time_left_s(self, captured_ns: int) -> float:
        """Return how long an observation may still be used, seconds.

        Args:
            captured_ns: When it was captured, nanoseconds on the session's clock.
        """
        if self._max_age_ns is None:
            return threading.TIMEOUT_MAX
        return max(0.0, (captured_ns + self._max_age_ns - self._clock()) / 1e9)

    def close(self) -> None:
        """Forget the instruction; the program may serve another session."""
        self._instruction = ""

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _must_be_full(self, observation: Observation) -> bool:
        """Apply the rules of the manifest's policy: warm-up, refresh, motion gate, camera cut."""
        policy = self._manifest.policy
        is_warmup = self._steps < policy.warmup_steps
        is_refresh = policy.refresh_every > 0 and self._steps % policy.refresh_every == 0
        is_slow = self._gate is not None and not self._gate.is_fast
        is_cut = self._camera_cut is not None and self._camera_cut.is_cut(observation.images)
        return is_warmup or is_refresh or is_slow or is_cut

    def _score_views(self, observation: Observation, timings_ns: dict[str, int]) -> None:
        """Once per task, from its first observation, outside any later control step."""
        if self._scoring is not None:
            self._scoring.look(observation.images)
            self._program.set_task(VIEW_SCORES, self._scoring.scores(timings_ns))
            self._scoring = None

    def _telemetry(self, results: Mapping[str, NDArray[Any]]) -> Telemetry | None:
        """Copy what the graphs tell of the tokens; each of the two follows from the other where nothing is merged."""
        tokens = np.arange(self._manifest.grid.tokens, dtype=np.int64)
        ages = results[ENCODED_AGES][0].copy() if ENCODED_AGES in results else None
        if FATE in results:
            fate = results[FATE][0].copy()
            kept = results[KEPT][0].copy() if KEPT in results else tokens[fate == tokens]
            return Telemetry(kept, fate, ages)
        if KEPT in results:
            kept = results[KEPT][0].copy()
            return Telemetry(kept, np.where(np.isin(tokens, kept), tokens, _DROPPED), ages)
        return None

    def _write(self, observation: Observation) -> None:
        """Write an observation into the host tensors; nothing is written of one whose state overflows."""
        state = self._normalised(observation.proprio)
        self._program.set_images(observation.images)
        if PROPRIO in self._program.inputs:
            self._program.inputs[PROPRIO][0] = state
        if self._manifest.instruction.state_bins:
            self._set_instruction(self._instruction, state)
        if NOISE in self._program.inputs:
            buffer = self._program.inputs[NOISE][0]
            given = observation.noise
            buffer[...] = self._draw_noise(buffer.shape) if given is None else given

    def _normalised(self, proprio: NDArray[np.float32]) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):
            state = self._program.statistics.proprio.normalise(proprio)
        if not np.isfinite(state).all():
            raise ProprioError(
                f"expected proprioception within what float32 can hold once normalised, found {proprio.tolist()}: "
                "check the sensors and their units."
            )
        return state

    def _draw_noise(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return draw_noise(self._noise_seed, self._episode, self._steps, shape)

    def _set_instruction(self, instruction: str, state: NDArray[np.float32]) -> tuple[str, ...]:
        """Write the prompt; where it tells the state, every control step writes another."""
        bins = self._manifest.instruction.state_bins
        return self._program.set_instruction(instruction, state_text(state, bins) if bins else "")

    def _physical(self, normalised: NDArray[np.float32], observation: Observation) -> NDArray[np.float32]:
        """Bring actions to physical units, and relative ones to absolute."""
        actions = self._program.statistics.action.unnormalise(normalised)
        if self._relative.size:
            actions[:, self._relative] += observation.proprio[self._relative]
        return actions

    def _follow_on(
        self, actions: NDArray[np.float32], observation: Observation
    ) -> tuple[NDArray[np.float32], int, tuple[str, ...]]:
        """Return a chunk that follows on from the one before, how many numbers were moved, and the axes they are of."""
        if self._seams is None:
            return actions, 0, ()
        found = self._seams.limit(
            actions,
            proprio=observation.proprio,
            seen_ns=observation.captured_ns,
            executed=observation.executed,
        )
        names = self._manifest.action.names
        limited = tuple(names[index] for index in np.flatnonzero(found.moved.any(axis=0)))
        return found.actions, int(np.count_nonzero(found.moved)), limited

    def _commit(self, observation: Observation, actions: NDArray[np.float32]) -> None:
        """Count a control step whose chunk may leave, and keep what it hands to the next."""
        self._program.commit()
        if self._seams is not None:
            self._seams.note(actions, self._clock())
        if self._gate is not None:
            self._gate.note(actions)
        if self._camera_cut is not None:
            self._camera_cut.note(observation.images)
        self._steps += 1
        self._sequence = observation.sequence


def check_controls(manifest: Manifest) -> None:
    """Refuse a bundle that controls no robot.

    Args:
        manifest: Manifest of the bundle.

    Raises:
        BundleError: The bundle scores views, or answers questions.
    """
    if answers(manifest):
        raise BundleError(
            f"expected a bundle that controls a robot, found {manifest.name!r}, which answers questions: "
            f"ask it, or serve it beside one, as --answerer."
        )
    if is_scorer(manifest):
        raise BundleError(
            f"expected a bundle that controls a robot, found the scorer {manifest.name!r}: "
            f"serve it beside one, as --view-scorer."
        )
