"""An episode in live time with commands at the robot's own rate: the arm moves on while the model thinks.

The same :class:`saccade.runtime.motion.motion_controller.MotionController` as on a robot, on simulated time, so that a
fixed latency goes the same way again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import LateChunkError, SimulatorError, StoppedError
from saccade.proto.profile_names import FULL_PROFILE
from saccade.runtime.clock import monotonic_ns
from saccade.runtime.motion.chunk_queue import QueueMode
from saccade.runtime.motion.hold import MotionState
from saccade.runtime.motion.motion_controller import MotionController
from saccade.runtime.motion.motion_limits import MotionLimits
from saccade.runtime.observation import ActionChunk, Observation, Robot
from saccade.sim.closed_loop import Episode, Moment, told_task
from saccade.sim.course import ControlStep, Course, ask
from saccade.sim.live_time import LiveTime
from saccade.sim.motion_trace import MotionTrace
from saccade.sim.tabletop import arm
from saccade.sim.tabletop.env import TabletopEnv
from saccade.sim.tabletop.scene import TIMESTEP_S
from saccade.sim.tabletop.tasks import instruction
from saccade.sim.tabletop.world import _MAX_LEAD_M, CONTROL_HZ, SUBSTEPS, World

COMMAND_TICKS = 2
"""Physics steps from command to command: 10 ms, 100 commands a second."""
_TICK_NS = round(TIMESTEP_S * 1e9)


@dataclass(frozen=True)
class MotionPlan:
    """How an arm is driven while the model thinks.

    Args:
        mode: How chunks that overlap become one motion.
        watchdog_ns: How long there may be no action before the arm is latched, nanoseconds; None = three control steps.
    """

    mode: QueueMode
    watchdog_ns: int | None = None


@dataclass(frozen=True)
class _Asked:
    """A question to the model that is under way in simulated time."""

    step: ControlStep
    chunk: ActionChunk | None
    captured_ns: int
    arrives_ns: int


class _Drive:
    """The model's part of an episode: what is asked, what arrived, on simulated time."""

    def __init__(self, motion: MotionController, trace: MotionTrace) -> None:
        self._motion, self._trace = motion, trace
        self.steps: list[ControlStep] = []
        self.under_way: _Asked | None = None

    def receive(self, now_ns: int) -> None:
        """Take what has arrived by now."""
        asked = self.under_way
        if asked is None or now_ns < asked.arrives_ns:
            return
        self.under_way = None
        step = asked.step
        if asked.chunk is not None:
            try:
                self._motion.add(asked.chunk.actions, asked.captured_ns, now_ns)
            except LateChunkError:
                step = replace(step, is_late=True)
            except StoppedError:
                step = replace(step, is_refused=True)  # latched: the episode runs out, and its figures say so
            else:
                self._trace.note_seam()
        self.steps.append(step)


def run_driven_episode(  # noqa: PLR0913 - all but two are options
    env: TabletopEnv,
    robot: Robot,
    *,
    seed: int,
    profile: str,
    limits: MotionLimits,
    plan: MotionPlan,
    live: LiveTime,
    is_told_wrong: bool = False,
    opening: int = 0,
    watch: Callable[[Moment], None] | None = None,
) -> Episode:
    """Run one episode from reset to success, to the end of what was told, or to the horizon.

    The model is asked again as soon as it has answered, at most once in a control step.

    Args:
        env: The tabletop, set to one task template.
        robot: The in-process session, or the client's that was opened with ``limits_itself``.
        seed: Seed of the episode, held out of training; see :func:`saccade.sim.seeds.held_out_seeds`.
        profile: Name of the profile that is asked for in every control step behind the opening.
        limits: Limits of the arm's axes.
        plan: How the arm is driven.
        live: How much simulated time an answer takes.
        is_told_wrong: Whether to tell the model another task.
        opening: How many control steps at the start ask for ``full`` whatever the policy.
        watch: Called after every ``act``, outside the measured time; then telemetry is asked for.

    Raises:
        SimulatorError: The actions are not deltas.
        SaccadeError: Whatever the robot raises, except a refused chunk: the arm goes on with those it has.
    """
    if limits.is_delta != (True, True, True, False):
        raise SimulatorError(
            f"expected a bundle whose actions are three deltas and a gripper, found {limits.names}."
        )
    seen, _ = env.reset(seed=seed)
    world = env.world
    task = told_task(env, seed, is_told_wrong=is_told_wrong)
    told = instruction(task, world.layout)
    robot.reset(told)
    period_s = COMMAND_TICKS * TIMESTEP_S
    motion = MotionController(limits, tick_hz=1 / period_s, mode=plan.mode, watchdog_ns=plan.watchdog_ns)
    trace = MotionTrace(period_s, 1 / CONTROL_HZ)
    course, drive, held, sequence = Course(world, task), _Drive(motion, trace), 0, 0
    while course.goes_on():
        now_ns = world.ticks * _TICK_NS
        drive.receive(now_ns)
        if drive.under_way is None and world.ticks % SUBSTEPS == 0:
            seen = env.observe() if sequence else seen
            sequence += 1
            observation = Observation(
                seen["images"], seen["proprio"], monotonic_ns(), sequence, wants_telemetry=watch is not None
            )
            step, chunk = ask(robot, observation, FULL_PROFILE if sequence <= opening else profile)
            if watch is not None:
                watch(Moment(told, observation, chunk, world.steps))
            drive.under_way = _Asked(step, chunk, now_ns, now_ns + live.latency_ns(step.latency_ns))
            drive.receive(now_ns)
        command = motion.tick(now_ns, np.array([0, 0, 0, _gripper(world)]))
        held += command.state is not MotionState.MOVING
        trace.note(command.values)
        _command(world, command.values)
        course.run_on(COMMAND_TICKS)
    clamped = sum(count for name, count in motion.counters.items() if name.startswith("clamped."))
    figures = trace.figures(clamped=clamped, held=held, is_latched=motion.state is MotionState.LATCHED)
    return Episode(
        world.task.template,
        seed,
        profile,
        told,
        world.succeeded,
        course.is_told_done,
        world.steps,
        tuple(drive.steps),
        figures,
    )


def _gripper(world: World) -> float:
    """Return what the gripper was last told: 1 = open, 0 = closed."""
    return float(world.data.ctrl[3] > world.model.actuator_ctrlrange[3].mean())


def _command(world: World, command: NDArray[np.float32]) -> None:
    """Move the arm's target as :meth:`saccade.sim.tabletop.world.World.step` does, and let no time pass.

    Args:
        world: The table.
        command: float32 ``(4,)``: dx, dy, dz in metres since the command before, gripper 0 (close) to 1 (open).
    """
    control, tcp = world.data.ctrl, world.tcp()
    target = np.clip(control[:3] + command[:3], tcp - _MAX_LEAD_M, tcp + _MAX_LEAD_M)
    control[:3] = np.clip(
        target, world.model.actuator_ctrlrange[:3, 0], world.model.actuator_ctrlrange[:3, 1]
    )
    control[3:] = arm.FINGER_OPEN_M if command[3] > 0.5 else arm.FINGER_CLOSED_M
