import numpy as np

from saccade.runtime.deadline.step_times import StepTimes, measured_step_times
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.session import Session
from tests.tiny_bundle import GRID, tiny_observation, tiny_step

IDLE = {"full": 40, "keep50": 30, "keep25": 20}


def test_an_idle_machine_is_predicted_as_it_was_measured() -> None:
    times = StepTimes(IDLE)
    assert times.profiles == ("full", "keep50", "keep25")
    assert {name: times.predict_ns(name) for name in IDLE} == IDLE


def test_load_seen_at_one_profile_counts_for_all() -> None:
    times = StepTimes(IDLE)
    for _ in range(2):
        times.note("keep50", 60)
    assert {name: times.predict_ns(name) for name in IDLE} == {"full": 80, "keep50": 60, "keep25": 40}


def test_one_outlier_changes_nothing_and_two_are_forgotten() -> None:
    times = StepTimes(IDLE)
    times.note("full", 40)
    times.note("full", 400)
    assert times.load == 1.0
    times.note("full", 200)
    assert times.load == 5.0
    for _ in range(12):
        times.note("full", 40)
    assert times.load == 1.0


def test_a_start_on_a_busy_machine_is_forgotten() -> None:
    times = StepTimes(IDLE)
    for _ in range(3):
        times.note("keep50", 15)
    assert {name: times.predict_ns(name) for name in IDLE} == {"full": 20, "keep50": 15, "keep25": 10}


def test_every_profile_of_a_bundle_is_measured_and_its_carry_left_alone(
    program: ProgramExecutor, session: Session
) -> None:
    session.reset("push")
    carry = np.zeros(GRID.tokens, np.float32)
    for sequence in (1, 2):
        times = measured_step_times(program)
        observation = tiny_observation(sequence, sequence=sequence)
        actions, _, carry = tiny_step(observation, carry, GRID.tokens, 1)
        np.testing.assert_allclose(session.act(observation, "full").actions, actions, atol=1e-6)
    assert set(times.profiles) == {profile.name for profile in program.manifest.profiles}
    assert all(times.predict_ns(name) > 0 for name in times.profiles)
