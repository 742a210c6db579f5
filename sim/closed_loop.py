"""The closed loop: observe, act, execute the first actions of the chunk, until success or the horizon.

By default the world waits while the model thinks; with :class:`saccade.sim.live_time.LiveTime` it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from saccade.proto.profile_names import FULL_PROFILE
from saccade.runtime.clock import monotonic_ns
from saccade.runtime.observation import ActionChunk, Observation, Robot
from saccade.sim.course import ControlStep, Course, ask
from saccade.sim.live_time import LiveTime, TickCount, is_late
from saccade.sim.motion_trace import MotionFigures
from saccade.sim.tabletop.env import TabletopEnv
from saccade.sim.tabletop.tasks import REACH, Task, feasible_tasks, instruction

DEFAULT_EXECUTE = 4
"""Actions of a chunk that are executed before the model looks again."""


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
        motion: How smoothly the arm was commanded; None where actions were executed as they are.
    """

    template: str
    seed: int
    profile: str
    instruction: str
    is_success: bool
    is_told_done: bool
    env_steps: int
    control_steps: tuple[ControlStep, ...]
    motion: MotionFigures | None = None


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


class _Thinking:
    """What becomes of a chunk after the time that it took."""

    def __init__(self, course: Course, live: LiveTime | None) -> None:
        self._course, self._live = course, live
        self._count = TickCount()

    def think(self, step: ControlStep, chunk: ActionChunk | None) -> tuple[ControlStep, ActionChunk | None]:
        """Let the time of ``act`` pass; return the step, and its chunk if it is to be used."""
        if self._live is None:
            return step, chunk
        age_ns = self._live.latency_ns(step.latency_ns)
        self._course.run_on(self._count.ticks(age_ns))
        if chunk is not None and is_late(chunk, age_ns):
            return replace(step, is_late=True), None
        return step, chunk


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
    task = told_task(env, seed, is_told_wrong=is_told_wrong)
    told = instruction(task, world.layout)
    robot.reset(told)
    steps: list[ControlStep] = []
    course = Course(world, task)
    thinking = _Thinking(course, live)
    executed: int | None = None
    while course.goes_on():
        if steps:
            seen = env.observe()
        observation = Observation(
            seen["images"],
            seen["proprio"],
            monotonic_ns(),
            len(steps) + 1,
            wants_telemetry=watch is not None,
            executed=executed,
        )
        step, chunk = ask(robot, observation, FULL_PROFILE if len(steps) < opening else profile)
        if watch is not None:
            watch(Moment(told, observation, chunk, world.steps))
        step, chunk = thinking.think(step, chunk)
        steps.append(step)
        executed = 0 if step.is_late else executed
        if chunk is not None:
            executed = min(execute, len(chunk.actions))
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


def told_task(env: TabletopEnv, seed: int, *, is_told_wrong: bool) -> Task:
    """Return what the model is told: the true task, or another one.

    Args:
        env: The tabletop, reset.
        seed: Seed of the episode.
        is_told_wrong: Whether it is another one.
    """
    return other_task(env, seed) if is_told_wrong else env.world.task


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
