"""In live time the arm moves on while the model thinks, and keeps its limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from saccade.proto.errors import SimulatorError
from saccade.proto.manifest import ActionSpec, LimitsSpec
from saccade.runtime.motion.chunk_queue import QueueMode
from saccade.runtime.motion.motion_limits import MotionLimits
from saccade.runtime.motion.operator_limits import OperatorLimits
from saccade.runtime.observation import ActionChunk, Observation
from saccade.sim.closed_loop import Episode, run_episode
from saccade.sim.driven_episode import MotionPlan, run_driven_episode
from saccade.sim.live_time import LiveTime
from saccade.sim.tabletop.arm import ACTION_NAMES
from saccade.sim.tabletop.env import TabletopEnv
from saccade.sim.tabletop.tables import TABLES
from tests.sim.test_live_time import ExpertRobot

ARM = ActionSpec(ACTION_NAMES, ("m", "m", "m", "open"), 8, 20.0, "delta_ee")
LIMITS = MotionLimits.of(
    LimitsSpec((-0.022,) * 3 + (-0.1,), (0.022,) * 3 + (1.1,), (0.044,) * 3 + (1.2,)), ARM
)
GENTLE = LIMITS.narrowed(
    OperatorLimits(
        velocity=(0.3,) * 3 + (None,), acceleration=(4.0,) * 3 + (None,), jerk=(200.0,) * 3 + (None,)
    )
)


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    env = TabletopEnv("intercept", table=TABLES["shapes"], image_px=16)
    yield env
    env.close()


def drive(
    env: TabletopEnv, latency_ms: float, mode: QueueMode = QueueMode.LATEST, limits: MotionLimits = LIMITS
) -> Episode:
    return run_driven_episode(
        env,
        ExpertRobot(env),
        seed=0,
        profile="full",
        limits=limits,
        plan=MotionPlan(mode),
        live=LiveTime(latency_ms),
    )


def test_it_does_the_task_and_goes_the_same_way_again(env: TabletopEnv) -> None:
    one, again = drive(env, 100), drive(env, 100)
    assert one.is_success and replace(one, control_steps=()) == replace(again, control_steps=())
    assert one.motion is not None and one.motion.seams == len(one.control_steps)
    waits = run_episode(env, ExpertRobot(env), seed=0, profile="full", live=LiveTime(100))
    assert one.env_steps < waits.env_steps, "it does not stand still while the model thinks"


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes of a second and a half."""
    monkeypatch.setattr("saccade.sim.tabletop.world.HORIZON", 30)


@pytest.mark.usefixtures("briefly")
@pytest.mark.parametrize("mode", list(QueueMode))
def test_no_mode_breaks_a_limit(env: TabletopEnv, mode: QueueMode) -> None:
    found = drive(env, 150, mode, GENTLE).motion
    assert found is not None and found.clamped > 0, "or it shows nothing"
    assert found.velocity <= 0.3 and found.jerk <= 200.0
    assert found.change <= 4.0 * 0.01 * 0.05 + 1e-9, (
        "the acceleration over a command, in metres per control step"
    )
    assert 0 < found.seam_velocity <= found.velocity


@pytest.mark.usefixtures("briefly")
def test_an_arm_that_hears_too_late_is_latched_where_it_stands(env: TabletopEnv) -> None:
    late = drive(env, 405)
    assert late.motion is not None and not late.is_success
    assert all(step.is_late for step in late.control_steps) and late.motion.velocity == 0
    assert late.motion.held == 150, "1.5 s at 100 Hz; nothing came, so nothing was missed"

    class Once(ExpertRobot):
        def act(self, observation: Observation, profile: str | None = None) -> ActionChunk:
            chunk = super().act(observation, profile)
            # After the first they last for one control step: over before they come.
            return chunk if observation.sequence == 1 else replace(chunk, actions=chunk.actions[:1])

    latched = run_driven_episode(
        env,
        Once(env),
        seed=0,
        profile="full",
        limits=LIMITS,
        plan=MotionPlan(QueueMode.LATEST),
        live=LiveTime(300),
    ).motion
    assert latched is not None and latched.is_latched


@pytest.mark.usefixtures("briefly")
def test_a_patient_watchdog_lets_it_hold_until_the_next_chunk(env: TabletopEnv) -> None:
    """400 ms of actions, the next ones 600 ms after the observation before: 200 ms without."""
    for watchdog_ms, is_latched in ((150, True), (250, False)):
        found = run_driven_episode(
            env,
            ExpertRobot(env),
            seed=0,
            profile="full",
            limits=LIMITS,
            plan=MotionPlan(QueueMode.LATEST, watchdog_ms * 1_000_000),
            live=LiveTime(300),
        ).motion
        assert found is not None and found.is_latched == is_latched and found.held > 20


def test_only_an_arm_of_deltas_is_driven(env: TabletopEnv) -> None:
    places = replace(LIMITS, is_delta=(False,) * 4)
    with pytest.raises(SimulatorError, match="three deltas and a gripper"):
        drive(env, 100, limits=places)
