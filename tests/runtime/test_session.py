import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade.proto import errors
from saccade.proto.policy_spec import CameraCutSpec, GateSpec
from saccade.proto.scales import MeanStdScale
from saccade.runtime.bundle import Bundle
from saccade.runtime.deadline.chooser import ProfileChooser
from saccade.runtime.deadline.step_times import StepTimes
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.guards.motion_gate import MotionGate
from saccade.runtime.observation import ActionChunk, Observation
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.session import Session
from tests.runtime.guards.test_observation_check import UNUSABLE, changed
from tests.tiny_bundle import (
    GRID,
    SIDE,
    VIEWS,
    TinyOptions,
    tiny_observation,
    tiny_step,
    write_tiny_bundle,
)

INSTRUCTION = "push the red cube"
WORDS = 4


def kept_of(chunk: ActionChunk) -> list[int]:
    assert chunk.telemetry is not None
    found: list[int] = chunk.telemetry.kept.tolist()
    return found


def test_actions_are_the_model_in_physical_units(session: Session) -> None:
    session.reset(INSTRUCTION)
    carry = np.zeros(GRID.tokens, np.float32)
    for seed, keep in enumerate([8, 4, 8, 4, 4]):
        observation = tiny_observation(seed, sequence=seed + 1, captured_ns=seed, wants_telemetry=True)
        chunk = session.act(observation, "keep50" if keep == 4 else "full")
        actions, kept, carry = tiny_step(observation, carry, keep, WORDS)
        np.testing.assert_allclose(chunk.actions, actions, atol=1e-6)
        assert kept_of(chunk) == kept.tolist()
        assert (chunk.sequence, chunk.captured_ns, chunk.clamped) == (seed + 1, seed, 0)
        assert {"prepare", "stage.step", "finish", "session"} == chunk.timings_ns.keys()


def test_a_chunk_stays_as_it_is_when_the_next_one_is_made(session: Session) -> None:
    session.reset(INSTRUCTION)
    session.act(tiny_observation(0))
    first = session.act(tiny_observation(1, sequence=2, wants_telemetry=True), "keep50")
    actions, kept = first.actions.copy(), kept_of(first)
    for seed in range(2, 6):
        session.act(tiny_observation(seed, sequence=seed + 1), "keep50")
    np.testing.assert_array_equal(first.actions, actions)
    assert kept_of(first) == kept


def test_reset_starts_over(session: Session) -> None:
    found = []
    for _ in range(2):
        session.reset(INSTRUCTION)
        found.append([session.act(tiny_observation(seed, sequence=seed + 1), "keep50") for seed in range(4)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)
        assert one.profile == other.profile


def test_the_instruction_decides(session: Session) -> None:
    second = []
    for instruction in ("reach", "push the red cube", "  reach "):
        session.reset(instruction)
        second.append(float(session.act(tiny_observation()).actions[0, 1]))
    assert second[1] - second[0] == pytest.approx(0.03)
    assert second[2] == second[0]


@pytest.mark.parametrize(
    ("warmup", "refresh", "expected"),
    [(0, 0, "kkkkkk"), (2, 0, "ffkkkk"), (0, 3, "fkkfkk"), (1, 4, "fkkkfk")],
)
def test_warm_up_and_refresh_steps_run_full(tiny: Path, warmup: int, refresh: int, expected: str) -> None:
    bundle = Bundle.open(tiny)
    policy = dataclasses.replace(bundle.manifest.policy, warmup_steps=warmup, refresh_every=refresh)
    manifest = dataclasses.replace(bundle.manifest, policy=policy)
    with OrtBackend(threads=1) as backend:
        session = Session(
            ProgramExecutor(dataclasses.replace(bundle, manifest=manifest), backend), profile="keep50"
        )
        for _ in range(2):
            session.reset(INSTRUCTION)
            ran = [session.act(tiny_observation(sequence=step + 1)).profile[0] for step in range(6)]
            assert "".join(ran) == expected


def test_observing_before_reset_is_refused(session: Session) -> None:
    with pytest.raises(errors.SessionNotResetError, match="expected reset"):
        session.act(tiny_observation())


@pytest.mark.parametrize("instruction", ["", "  \n"])
def test_an_empty_instruction_is_refused(session: Session, instruction: str) -> None:
    with pytest.raises(errors.InstructionError, match=r"expected an instruction such as .* found nothing"):
        session.reset(instruction)


@pytest.mark.parametrize("instruction", ["push \udcff", "push \0"])
def test_an_instruction_that_is_no_unicode_text_is_refused(session: Session, instruction: str) -> None:
    with pytest.raises(errors.InstructionError, match="in Unicode text, found"):
        session.reset(instruction)


def test_a_long_instruction_is_refused(session: Session) -> None:
    with pytest.raises(
        errors.InstructionError, match="1 to 6 tokens, its template included, found 7: say it"
    ):
        session.reset("push " * 7)


OUT_OF_ORDER = (
    changed(sequence=0),
    errors.ObservationError,
    "expected an observation sequence above 0, found 0",
)


@pytest.mark.parametrize("case", [*UNUSABLE.values(), OUT_OF_ORDER], ids=[*UNUSABLE, "order"])
def test_an_unusable_observation_is_refused_and_nothing_runs(
    session: Session, case: tuple[Observation, type[errors.SaccadeError], str]
) -> None:
    observation, kind, message = case
    session.reset(INSTRUCTION)
    with pytest.raises(kind, match=message):
        session.act(observation)
    chunk = session.act(tiny_observation())
    session.reset(INSTRUCTION)
    np.testing.assert_array_equal(chunk.actions, session.act(tiny_observation()).actions)


def test_a_missing_profile_is_named(session: Session, program: ProgramExecutor) -> None:
    session.reset(INSTRUCTION)
    with pytest.raises(errors.UnknownProfileError, match=r"\(full, keep50\), found 'keep3'"):
        session.act(tiny_observation(), "keep3")
    with pytest.raises(errors.UnknownProfileError, match="found 'tiny'"):
        Session(program, profile="tiny")


@pytest.mark.parametrize(("captured_ns", "is_used"), [(950, True), (900, True), (899, False), (1001, False)])
def test_stale_and_future_observations_are_refused(
    program: ProgramExecutor, captured_ns: int, is_used: bool
) -> None:
    session = Session(program, max_age_ns=100, clock=lambda: 1000)
    session.reset(INSTRUCTION)
    observation = tiny_observation(captured_ns=captured_ns)
    if is_used:
        assert session.act(observation).captured_ns == captured_ns
        return
    with pytest.raises(errors.StaleObservationError, match="send a newer one"):
        session.act(observation)


def test_a_chunk_that_is_ready_too_late_is_dropped_and_leaves_no_trace(program: ProgramExecutor) -> None:
    readings = iter([0, 100, 0, 101, 0, 100])  # at the start and at the end of each step
    session = Session(program, profile="keep50", max_age_ns=100, clock=lambda: next(readings))
    session.reset(INSTRUCTION)
    carry = np.zeros(GRID.tokens, np.float32)
    first, late, third = (
        tiny_observation(seed, sequence=seed + 1, captured_ns=0, wants_telemetry=True) for seed in range(3)
    )
    _, _, carry = tiny_step(first, carry, GRID.tokens, WORDS)
    assert session.act(first).sequence == 1
    with pytest.raises(errors.LateChunkError, match="it is dropped, hold the arm"):
        session.act(late)
    actions, kept, _ = tiny_step(third, carry, 4, WORDS)
    chunk = session.act(third)
    np.testing.assert_allclose(chunk.actions, actions, atol=1e-6)
    assert kept_of(chunk) == kept.tolist()


def test_a_camera_that_stopped_is_refused_until_it_moves_again(program: ProgramExecutor) -> None:
    session = Session(program, max_frozen_frames=3)
    session.reset(INSTRUCTION)
    moving, still = (tiny_observation(seed).images["scene"] for seed in (0, 1))
    for sequence in range(1, 9):
        wrist = np.full_like(moving, sequence)
        observation = dataclasses.replace(
            tiny_observation(sequence=sequence),
            images={"scene": still if sequence < 6 else moving, "wrist": wrist},
        )
        if sequence in (4, 5):
            with pytest.raises(errors.FrozenCameraError, match=r"'scene': .* same pixels \d times in a row"):
                session.act(observation)
        else:
            assert session.act(observation).sequence == sequence
    session.reset(INSTRUCTION)
    assert session.act(tiny_observation()).sequence == 1


def test_an_observation_is_used_once(session: Session) -> None:
    session.reset(INSTRUCTION)
    session.act(tiny_observation(sequence=3))
    for sequence in (3, 2):
        with pytest.raises(errors.ObservationError, match=f"above 3, found {sequence}"):
            session.act(tiny_observation(sequence=sequence))


def test_a_model_that_goes_wrong_is_refused_and_its_carry_forgotten(tmp_path: Path) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "poison", poison=True, warmup_steps=0))
    good = tiny_observation(wants_telemetry=True)
    with OrtBackend(threads=1) as backend:
        session = Session(ProgramExecutor(bundle, backend))
        session.reset(INSTRUCTION)
        bad = dataclasses.replace(tiny_observation(1), proprio=np.zeros(2, np.float32))
        with pytest.raises(
            errors.ActionRefusedError, match=r"action 'dx' at control step 0 .* found inf: the whole chunk"
        ):
            session.act(bad)
        after = session.act(good, "keep50")
        session.reset(INSTRUCTION)
        assert kept_of(after) == kept_of(session.act(good, "keep50"))


def gated(tmp_path: Path, gate: GateSpec, **more: Any) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path / "gated", options=TinyOptions(gate=gate), **more))


def bright(level: int, sequence: int) -> Observation:
    """The brighter the frame, the further the tiny model moves."""
    images = {view: np.full((SIDE, SIDE, 3), level, np.uint8) for view in VIEWS}
    return dataclasses.replace(tiny_observation(sequence=sequence), images=images)


def test_the_gate_runs_full_while_the_arm_is_slow(tmp_path: Path) -> None:
    levels = [10, 20, 30, 40, 50, 10, 5, 4, 3, 30, 60]
    with OrtBackend(threads=1) as backend:
        program = ProgramExecutor(gated(tmp_path, GateSpec(1, 1), warmup_steps=0), backend)
        session = Session(program, profile="keep50")
        gate = MotionGate(GateSpec(1, 1), program.manifest.action)
        for _ in range(2):  # a reset clears it
            session.reset(INSTRUCTION)
            gate.reset()
            ran = []
            for sequence, level in enumerate(levels, 1):
                expected = "keep50" if gate.is_fast else "full"
                chunk = session.act(bright(level, sequence))
                gate.note(chunk.actions)
                assert chunk.profile == expected
                ran.append(chunk.profile[0])
            assert ran[:2] == ["f", "f"], "one window and one before it"
            assert set(ran[2:]) == {"f", "k"}


def test_the_gate_yields_to_warm_up_and_asks_nobody_for_less(tmp_path: Path) -> None:
    bundle = gated(tmp_path, GateSpec(1, 1), warmup_steps=5)
    with OrtBackend(threads=1) as backend:
        session = Session(ProgramExecutor(bundle, backend))
        session.reset(INSTRUCTION)
        rising = [session.act(bright(2**n, n), "keep50").profile for n in range(1, 8)]
        assert rising == ["full"] * 5 + ["keep50"] * 2, "fast since the second, full for the warm-up"
        assert session.act(bright(255, 8)).profile == "full", "fast, and full was asked for"


def test_a_chunk_that_never_left_does_not_move_the_gate(tmp_path: Path) -> None:
    bundle = gated(tmp_path, GateSpec(1, 1), warmup_steps=0, poison=True)
    with OrtBackend(threads=1) as backend:
        session = Session(ProgramExecutor(bundle, backend), profile="keep50")
        session.reset(INSTRUCTION)
        for sequence in (1, 2):
            bad = dataclasses.replace(bright(10 * sequence, sequence), proprio=np.zeros(2, np.float32))
            with pytest.raises(errors.ActionRefusedError):
                session.act(bad)
        one = dataclasses.replace(bright(10, 3), proprio=np.ones(2, np.float32))
        two = dataclasses.replace(bright(20, 4), proprio=np.ones(2, np.float32))
        assert [session.act(each).profile for each in (one, two)] == ["full", "full"]
        assert session.act(dataclasses.replace(one, sequence=5)).profile == "keep50"


def test_another_picture_runs_full_once(tmp_path: Path) -> None:
    options = TinyOptions(camera_cut=CameraCutSpec(0.3))
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "cut", options=options, warmup_steps=0))
    with OrtBackend(threads=1) as backend:
        session = Session(ProgramExecutor(bundle, backend), profile="keep50")
        for _ in range(2):  # a reset forgets what was seen
            session.reset(INSTRUCTION)
            levels = [250, 240, 100, 90, 70, 10]
            ran = [session.act(bright(level, number)).profile for number, level in enumerate(levels, 1)]
            assert ran == ["keep50", "keep50", "full", "keep50", "keep50", "full"]


def test_what_a_refused_step_saw_is_no_picture_to_compare_with(tmp_path: Path) -> None:
    options = TinyOptions(camera_cut=CameraCutSpec(0.3))
    path = write_tiny_bundle(tmp_path / "cut", options=options, warmup_steps=0, poison=True)
    with OrtBackend(threads=1) as backend:
        session = Session(ProgramExecutor(Bundle.open(path), backend), profile="keep50")
        session.reset(INSTRUCTION)
        good, bad = np.ones(2, np.float32), np.zeros(2, np.float32)
        session.act(dataclasses.replace(bright(10, 1), proprio=good))
        with pytest.raises(errors.ActionRefusedError):
            session.act(dataclasses.replace(bright(200, 2), proprio=bad))
        assert session.act(dataclasses.replace(bright(200, 3), proprio=good)).profile == "full"


def test_relative_actions_count_from_the_state_of_their_own_index(tiny: Path) -> None:
    """The gripper is absolute, and proprioception does not tell it."""
    bundle = Bundle.open(tiny)
    action = dataclasses.replace(bundle.manifest.action, relative=(True, False))
    moved = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, action=action))
    seen = dataclasses.replace(tiny_observation(), proprio=np.array([0.25], np.float32))
    with OrtBackend(threads=1) as backend:
        plain, relative = (Session(ProgramExecutor(each, backend)) for each in (bundle, moved))
        chunk = np.full((action.chunk, action.dim), 0.5, np.float32)
        difference = relative._physical(chunk, seen) - plain._physical(chunk, seen)
    np.testing.assert_allclose(difference, np.tile([0.25, 0.0], (action.chunk, 1)), atol=1e-7)


def test_a_state_that_overflows_when_it_is_normalised_is_refused(session: Session) -> None:
    scale = MeanStdScale(np.zeros(2, np.float32), np.full(2, 0.01, np.float32))
    session._program.statistics = dataclasses.replace(session._program.statistics, proprio=scale)
    session.reset(INSTRUCTION)
    for size in (3e38, 1e300):
        state = np.array([size, 0.0], np.float64 if size > 1e39 else np.float32)
        with pytest.raises(errors.ProprioError, match="within what float32 can hold once normalised"):
            session.act(dataclasses.replace(tiny_observation(), proprio=state))


def test_a_step_whose_chunk_is_dropped_as_late_is_not_repeated_as_slow(program: ProgramExecutor) -> None:
    """Each chunk is late, so that none is ever returned; the chooser learns all the same."""
    times = StepTimes({"full": 1, "keep50": 1})
    now_ns = iter(range(0, 10**9, 1000))
    chooser = ProfileChooser(10**9, times, ("full", "keep50"))
    with Session(program, max_age_ns=2500, clock=lambda: next(now_ns), chooser=chooser) as session:
        session.reset(INSTRUCTION)
        for sequence in (1, 2):
            captured_ns = next(now_ns)
            with pytest.raises(errors.LateChunkError):
                session.step(tiny_observation(sequence=sequence, captured_ns=captured_ns))
    assert times.load > 1000
