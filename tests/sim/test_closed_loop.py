"""The loop executes what it is given, tells what it was told to tell, and counts everything."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from saccade.proto.errors import ActionRefusedError
from saccade.runtime.observation import ActionChunk, Observation
from saccade.sim.closed_loop import Moment, hold_still, other_task, run_episode
from saccade.sim.connection import Connection
from saccade.sim.tabletop.env import TabletopEnv
from saccade.sim.tabletop.scripted_expert import scripted_action
from saccade.sim.tabletop.tables import BUNDLED
from saccade.sim.tabletop.tasks import feasible_tasks, instruction
from saccade.sim.tabletop.world import HORIZON
from tests.sim.tabletop_bundle import CHUNK, LOWER_M, WARMUP_STEPS


@pytest.fixture
def env() -> Iterator[TabletopEnv]:
    env = TabletopEnv("place")
    yield env
    env.close()


class ExpertRobot:
    """A robot that looks things up: the expert's next actions for the task that its instruction names."""

    def __init__(self, env: TabletopEnv, *, refuse_first: int = 0) -> None:
        self._env = env
        self._refusals = refuse_first
        self.told = ""
        self.sequences: list[int] = []
        self.asked: list[bool] = []

    def reset(self, told: str) -> None:
        self.told = told

    def act(self, observation: Observation, profile: str | None = None) -> ActionChunk:
        self.sequences.append(observation.sequence)
        self.asked.append(observation.wants_telemetry)
        if len(self.sequences) <= self._refusals:
            raise ActionRefusedError("not a number")
        world = self._env.world
        layout, now, actions = world.layout, world.snapshot(), []
        tasks = [task for name in BUNDLED.templates for task in feasible_tasks(layout, name)]
        (task,) = [task for task in tasks if instruction(task, layout) == self.told]
        for _ in range(CHUNK):
            actions.append(scripted_action(world, task))
            world.step(actions[-1])
        world.restore(now)
        return ActionChunk(np.array(actions), profile or "", 0, observation.sequence, 0)


def test_success_is_what_the_true_task_says(env: TabletopEnv) -> None:
    episode = run_episode(env, ExpertRobot(env), seed=0, profile="full")
    assert episode.is_success and episode.is_told_done and episode.env_steps < HORIZON
    assert len(episode.control_steps) == -(-episode.env_steps // 4)
    assert episode.instruction == env.observe()["instruction"]


@pytest.mark.parametrize("template", BUNDLED.templates)
def test_who_is_told_another_task_does_that_one_and_not_the_true_one(template: str) -> None:
    env = TabletopEnv(template)
    for seed in range(6):
        episode = run_episode(env, ExpertRobot(env), seed=seed, profile="full", is_told_wrong=True)
        assert episode.instruction != env.observe()["instruction"]
        assert not episode.is_success and episode.is_told_done and episode.env_steps < HORIZON
    env.close()


def test_who_does_nothing_does_neither_task(env: TabletopEnv, in_process: Connection) -> None:
    episode = run_episode(env, in_process.robot, seed=0, profile="full", is_told_wrong=True)
    assert not episode.is_success and not episode.is_told_done and episode.env_steps == HORIZON


@pytest.mark.parametrize("template", BUNDLED.templates)
def test_the_other_task_differs_in_any_word_but_the_verb(template: str) -> None:
    env = TabletopEnv(template, image_px=16)
    same_block = 0
    for seed in range(40):
        env.reset(seed=seed)
        true, wrong = env.world.task, other_task(env, seed)
        assert wrong != true and wrong in feasible_tasks(env.world.layout, wrong.template)
        assert wrong.template == true.template or len(feasible_tasks(env.world.layout, "push")) == 1
        assert wrong == other_task(env, seed)
        same_block += wrong.thing == true.thing
    assert (same_block > 0) == (template not in ("reach", "intercept"))
    env.close()


def test_a_refused_chunk_holds_the_arm_for_one_step(env: TabletopEnv) -> None:
    robot = ExpertRobot(env, refuse_first=2)
    moments: list[Moment] = []
    episode = run_episode(env, robot, seed=0, profile="full", watch=moments.append)
    assert [step.is_refused for step in episode.control_steps[:3]] == [True, True, False]
    assert [moment.env_step for moment in moments[:4]] == [0, 1, 2, 6]
    assert [moment.chunk is None for moment in moments[:3]] == [True, True, False]
    np.testing.assert_allclose(moments[0].observation.proprio, moments[2].observation.proprio, atol=2e-3)
    assert robot.sequences == list(range(1, len(robot.sequences) + 1))
    assert episode.is_success


def test_holding_still_keeps_the_gripper_as_it_is(env: TabletopEnv) -> None:
    env.reset(seed=0)
    for gripper in (0.0, 1.0):
        env.advance(np.array([0, 0, 0, gripper], np.float32))
        np.testing.assert_array_equal(hold_still(env), np.array([0, 0, 0, gripper], np.float32))


def test_only_who_watches_asks_for_telemetry(env: TabletopEnv, in_process: Connection) -> None:
    for watch in (None, [].append):
        robot = ExpertRobot(env)
        run_episode(env, robot, seed=0, profile="full", watch=watch)
        assert set(robot.asked) == {watch is not None}
    moments: list[Moment] = []
    run_episode(env, in_process.robot, seed=1, profile="keep25", watch=moments.append)
    for moment in moments[WARMUP_STEPS:]:
        assert moment.chunk is not None and moment.chunk.telemetry is not None
        assert len(moment.chunk.telemetry.kept) == 72
        assert (
            np.flatnonzero(moment.chunk.telemetry.fate >= 0).tolist() == moment.chunk.telemetry.kept.tolist()
        )


@pytest.mark.parametrize("execute", [1, 4, CHUNK])
def test_executes_the_first_actions_of_a_chunk(
    env: TabletopEnv, in_process: Connection, execute: int
) -> None:
    moments: list[Moment] = []
    episode = run_episode(
        env, in_process.robot, seed=1, profile="keep25", execute=execute, watch=moments.append
    )
    assert not episode.is_success and episode.env_steps == HORIZON
    assert len(episode.control_steps) == HORIZON // execute
    assert [moment.env_step for moment in moments[:3]] == [0, execute, 2 * execute]
    fallen_m = moments[0].observation.proprio[2] - moments[1].observation.proprio[2]
    assert 0 < fallen_m <= execute * LOWER_M + 1e-6


def test_counts_what_the_session_reports(env: TabletopEnv, in_process: Connection) -> None:
    steps = run_episode(env, in_process.robot, seed=1, profile="keep25").control_steps
    assert [step.profile for step in steps] == ["full"] * WARMUP_STEPS + ["keep25"] * (len(steps) - 2)
    for step in steps:
        assert step.latency_ns >= step.timings_ns["session"] >= step.timings_ns["stage.step"] > 0
        assert step.clamped == 0 and not step.is_refused
