"""The closed loop: observe, act, execute the first actions of the chunk, until success or the horizon.

By default the world waits while the model thinks; with :class:`saccade.sim.live_time.LiveTime` it does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import ActionRefusedError
from saccade.proto.profile_names import FULL_PROFILE
from saccade.runtime.clock import monotonic_ns
from saccade.runtime.observation import ActionChunk, Observation, Robot
from saccade.sim.live_time import LiveTime, TickCount, is_late
from saccade.sim.tabletop.env import TabletopEnv
from saccade.sim.tabletop.tasks import REACH, Task, feasible_tasks, instruction
from saccade.sim.tabletop.world import HOLD_STEPS, SUBSTEPS, World

DEFAULT_EXECUTE = 4
"""Actions of a chunk that are executed before the model looks again."""


@dataclass(frozen=True)
class ControlStep:
    """What one call of ``act`` cost and gave.

    Args:
        latency_ns: How long ``act`` alone took for its caller, nanoseconds.
        profile: Name of the profile that ran; ``full`` where the policy's rules ask for it, empty if the chunk was
            refused.
        clamped: How many numbers the limiter changed.
        is_refused: Whether the limiter refused the chunk, and the arm was held.
        timings_ns: Durations that the session reports, nanoseconds by part.
        is_late: Whether the chunk was dropped because it came later than it lasts; only in live time.
    """

    latency_ns: int
    profile: str
    clamped: int
    is_refused: bool
    timings_ns: dict[str, int]
    is_late: bool = False


@dataclass(frozen=True)
class Episode:
    """One episode and how it went.

    Args:
        template: Template of the true task, which alone decides success.
        seed: Seed that layout, look, pose and task follow from.
        profile: Name of the profile that was asked for.
        instruction: What the model was told.
        is_success: Whether the true task was done before the horizon.
        is_told_done: Whether what the model was told was done; equal to success unless it was told another task.
        env_steps: How many control steps the environment ran.
        control_steps: One entry for each call of ``act``.
    """

    template: str
    seed: int
    profile: str
    instruction: str
    is_success: bool
    is_told_done: bool
    env_steps: int
    control_steps: tuple[ControlStep, ...]


@dataclass(frozen=True)
class Moment:
    """What the model saw at one moment and what it answered; for those who watch the loop.

    Args:
        instruction: What the model was told.
        observation: What the model saw.
        chunk: The model's answer, or None if that was refused.
        env_step: How many control steps the environment ran before.
    """

    instruction: str
    observation: Observation
    chunk: ActionChunk | None
    env_step: int


class _Course:
    """An episode under way: lets time pass, and says whether it goes on."""

    def __init__(self, world: World, told: Task, live: LiveTime | None) -> None:
        self._world, self._told, self._live = world, told, live
        self._count = TickCount()
        self._told_ticks = 0

    @property
    def is_told_done(self) -> bool:
        """Whether what the model was told is done and has stayed so."""
        return self._told_ticks >= HOLD_STEPS * SUBSTEPS

    def goes_on(self) -> bool:
        """Whether neither the task nor what was told is done, and there is time left."""
        return not (self._world.is_over() or self.is_told_done)

    def think(self, step: ControlStep, chunk: ActionChunk | None) -> tuple[ControlStep, ActionChunk | None]:
        """Let the time of ``act`` pass; return the step, and its chunk if it is to be used."""
        if self._live is None:
            return step, chunk
        age_ns = self._live.latency_ns(step.latency_ns)
        ticks = self._count.ticks(age_ns)
        while ticks > 0 and self.goes_on():
            passed = min(ticks, SUBSTEPS)
            self._world.run_on(passed)
            self._look(passed)
            ticks -= passed
        if chunk is not None and is_late(chunk, age_ns):
            return replace(step, is_late=True), None
        return step, chunk

    def execute(self, actions: NDArray[np.float32]) -> None:
        """Execute actions as long as the episode goes on."""
        for action in actions:
            if not self.goes_on():
                return
            self._world.step(action)
            self._look(SUBSTEPS)

    def _look(self, passed: int) -> None:
        self._told_ticks = self._told_ticks + passed if self._world.goal_holds(self._told) else 0


def run_episode(  # noqa: PLR0913 - all but two are options
    env: TabletopEnv,
    robot: Robot,
    *,
    seed: int,
    profile: str,
    execute: int = DEFAULT_EXECUTE,
    opening: int = 0,
    is_told_wrong: bool = False,
    live: LiveTime | None = None,
    watch: Callable[[Moment], None] | None = None,
) -> Episode:
    """Run one episode from reset to success, to the end of what was told, or to the horizon.

    Args:
        env: The tabletop, set to one task template.
        robot: The in-process session or the client's.
        seed: Seed of the episode, held out of training; see :func:`saccade.sim.seeds.held_out_seeds`.
        profile: Name of the profile that is asked for in every control step behind the opening.
        execute: How many actions of each chunk are executed.
        opening: How many control steps at the start ask for ``full`` whatever the policy.
        is_told_wrong: Whether to tell the model another task (control: it must do that one, and not the true one).
        live: How much simulated time a control step takes; None = the world waits.
        watch: Called after every ``act``, outside the measured time; then telemetry is asked for.

    Raises:
        SaccadeError: Whatever the robot raises, except a refused chunk, which holds the arm for one step.
    """
    seen, _ = env.reset(seed=seed)
    world = env.world
    task = other_task(env, seed) if is_told_wrong else world.task
    told = instruction(task, world.layout)
    robot.reset(told)
    steps: list[ControlStep] = []
    course = _Course(world, task, live)
    while course.goes_on():
        if steps:
            seen = env.observe()
        observation = Observation(
            seen["images"],
            seen["proprio"],
            monotonic_ns(),
            len(steps) + 1,
            wants_telemetry=watch is not None,
        )
        step, chunk = _act(robot, observation, FULL_PROFILE if len(steps) < opening else profile)
        if watch is not None:
            watch(Moment(told, observation, chunk, world.steps))
        step, chunk = course.think(step, chunk)
        steps.append(step)
        if chunk is not None:
            course.execute(chunk.actions[:execute])
        elif step.is_refused:
            course.execute(hold_still(env)[None])
    return Episode(
        world.task.template,
        seed,
        profile,
        told,
        world.succeeded,
        course.is_told_done,
        world.steps,
        tuple(steps),
    )


def hold_still(env: TabletopEnv) -> NDArray[np.float32]:
    """Return the action that moves nothing: float32 ``(4,)``; the gripper keeps its command."""
    world = env.world
    is_open = world.data.ctrl[3] > world.model.actuator_ctrlrange[3].mean()
    return np.array([0, 0, 0, is_open], np.float32)


def other_task(env: TabletopEnv, seed: int) -> Task:
    """Return another task of the template: another thing, direction or goal, or its things in the other order.

    If the layout leaves no room for one (push only), to touch another thing.
    """
    world = env.world
    true, layout = world.task, world.layout
    rng = np.random.default_rng([seed, 1])
    others = [task for task in feasible_tasks(layout, true.template) if task != true]
    if not others:
        others = [task for task in feasible_tasks(layout, REACH) if task.thing != true.thing]
    return others[rng.integers(len(others))]


def _act(robot: Robot, observation: Observation, profile: str) -> tuple[ControlStep, ActionChunk | None]:
    started = time.monotonic_ns()
    try:
        chunk = robot.act(observation, profile)
    except ActionRefusedError:
        latency_ns = time.monotonic_ns() - started
        return ControlStep(latency_ns, "", 0, True, {}), None
    latency_ns = time.monotonic_ns() - started
    step = ControlStep(latency_ns, chunk.profile, chunk.clamped, False, chunk.timings_ns)
    return step, chunk
