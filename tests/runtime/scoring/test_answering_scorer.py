"""A bundle that answers scores the views, through the real daemon, and nobody else waits for it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from saccade.proto import errors
from saccade.proto.fitted_picture import fit_picture
from saccade.proto.v1 import control_pb2 as wire
from saccade.proto.versions import WIRE_VERSION
from saccade.runtime.bundle import Bundle
from saccade.runtime.client import Client, RemoteSession
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.observation import ActionChunk, Observation
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.scoring.answering_scorer import AnsweringScorer
from saccade.runtime.scoring.query_objects import picture_question
from saccade.runtime.servers.endpoint import Endpoint
from saccade.runtime.session import Session
from saccade.runtime.transports.wire_format import observation_to_wire
from tests.runtime.scoring.robots import INSTRUCTION, expected, kept_by, serving
from tests.runtime.scoring.test_visible_objects import ROOM, SAID, YES, tiny_objects, tiny_probability
from tests.tiny_answerer import PICTURE_FIT, write_tiny_answerer
from tests.tiny_bundle import VIEWS, tiny_observation

ENDLESS = "forever {instruction}"
BOTH = {"scene": 0.0, "wrist": 1.0}


@pytest.fixture
def answerer(tmp_path: Path) -> Callable[..., Path]:
    def write(**options: Any) -> Path:
        return write_tiny_answerer(
            tmp_path / "answerer", spoken=YES, text=ROOM, **{"max_new_tokens": SAID, **options}
        )

    return write


def scores_of(observation: Observation, bundle: Path, instruction: str = INSTRUCTION) -> list[float]:
    """What the tiny answerer says of each view, fitted to its picture."""
    (view,) = Bundle.open(bundle).manifest.views
    question = picture_question(instruction, tiny_objects(instruction))
    fitted = [fit_picture(observation.images[name], view, PICTURE_FIT)[0] for name in VIEWS]
    return [tiny_probability(picture, question) for picture in fitted]


@pytest.mark.parametrize("transport", ["grpc", "zmq"])
def test_the_first_observation_of_a_task_is_scored(
    robot: Path, answerer: Callable[..., Path], transport: Any
) -> None:
    bundle = answerer()
    scores = scores_of(tiny_observation(0), bundle)
    assert expected(scores) != expected((1, 1))
    with serving(robot, bundle) as daemon:
        address = daemon.address if transport == "grpc" else daemon.zmq_address
        with Client(str(address), transport=transport) as client, client.open() as session:
            for _ in range(2):
                session.reset(INSTRUCTION)
                kept, timings_ns = kept_by(session)
                assert kept == expected(scores)
                assert [{"scorer.objects", "scorer.views"} <= set(each) for each in timings_ns] == [
                    True,
                    False,
                    False,
                ]
            session.reset(INSTRUCTION, view_scores=BOTH)
            assert kept_by(session)[0] == expected((0, 1)), "the client's win"
            with pytest.raises(errors.InstructionError, match="1 to 80 tokens"):
                session.reset("red " * ROOM)
            assert kept_by_later(session) == expected((0, 1), 4)[3]


def kept_by_later(session: RemoteSession) -> list[int]:
    """The fourth step of an episode."""
    chunk = session.act(tiny_observation(3, sequence=4, wants_telemetry=True), "keep50")
    assert chunk.telemetry is not None
    kept: list[int] = chunk.telemetry.kept.tolist()
    return kept


def test_in_process_too(robot: Path, answerer: Callable[..., Path]) -> None:
    bundle, opened = answerer(), Bundle.open(robot)
    with (
        OrtBackend(threads=1) as backend,
        AnsweringScorer(Bundle.open(bundle), opened.manifest) as scorer,
    ):
        session = Session(ProgramExecutor(opened, backend), scorer=scorer)
        session.reset(INSTRUCTION)
        assert kept_by(session)[0] == expected(scores_of(tiny_observation(0), bundle))


def test_nobody_waits_for_a_scorer_that_takes_for_ever(robot: Path, answerer: Callable[..., Path]) -> None:
    bundle = answerer(template=ENDLESS)
    with serving(robot, bundle, lease_ns=1) as daemon, Client(daemon.address) as client:
        slow = client.open()
        slow.reset(INSTRUCTION)
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(slow.act, tiny_observation())
            while daemon.endpoint.counters.snapshot().get("observations", 0) < 1:
                time.sleep(0.001)
            assert not waiting.done()
            with Client(daemon.address) as other:
                other.stop("look out")
                with pytest.raises(errors.StoppedError, match="look out"):
                    waiting.result()
                with other.open() as quick:
                    quick.reset(INSTRUCTION, release_stop=True, view_scores=BOTH)
                    assert kept_by(quick)[0] == expected((0, 1))
            with pytest.raises(errors.NoSessionError):
                slow.act(tiny_observation())


def test_a_newer_observation_a_new_episode_and_a_lost_lease_end_the_waiting(
    robot: Path, answerer: Callable[..., Path]
) -> None:
    bundle = answerer(template=ENDLESS)
    with serving(robot, bundle) as daemon, Client(daemon.address) as client, ThreadPoolExecutor(2) as thread:
        session, numbers = client.open(), count(1)

        def act() -> Future[ActionChunk]:
            """One that waits."""
            number = next(numbers)
            waiting = thread.submit(session.act, tiny_observation(sequence=number))
            while daemon.endpoint.counters.snapshot().get("observations", 0) < number:
                time.sleep(0.001)
            return waiting

        session.reset(INSTRUCTION)
        older, newer = act(), act()
        with pytest.raises(errors.SupersededError):
            older.result()
        session.reset("push")
        with pytest.raises(errors.SupersededError):
            newer.result()
        last = act()
        session.close()
        with pytest.raises(errors.NoSessionError):
            last.result()


def test_an_act_waits_no_longer_than_its_observation_lasts(
    robot: Path, answerer: Callable[..., Path]
) -> None:
    bundle, opened = answerer(template=ENDLESS), Bundle.open(robot)
    readings = count(0, 1_000_000)  # each look at the clock takes a millisecond
    with (
        OrtBackend(threads=1) as backend,
        AnsweringScorer(Bundle.open(bundle), opened.manifest) as scorer,
    ):
        endpoint = Endpoint(
            ProgramExecutor(opened, backend),
            max_age_ns=20_000_000,
            clock=lambda: next(readings),
            scorer=scorer,
        )
        token = endpoint.open(wire.OpenRequest(wire_version=WIRE_VERSION)).session_token
        endpoint.reset(wire.ResetRequest(session_token=token, instruction=INSTRUCTION))
        for sequence in (1, 2):
            seen = observation_to_wire(tiny_observation(sequence=sequence), token=token, profile="")
            with pytest.raises(
                errors.ViewsUnscoredError, match=r"'tiny answerer' still looking .*: hold the arm"
            ):
                endpoint.act(seen)
        endpoint.shut_down()


def test_a_scorer_that_fails_stops_the_arm_until_somebody_scores(
    robot: Path, answerer: Callable[..., Path]
) -> None:
    bundle = answerer(poison_position=0)
    with serving(robot, bundle) as daemon, Client(daemon.address) as client, client.open() as session:
        session.reset(INSTRUCTION)
        for sequence in (1, 2):
            with pytest.raises(
                errors.EngineError,
                match=r"expected view scores from 'tiny answerer', found: .*give scores in Reset",
            ):
                session.act(tiny_observation(sequence=sequence))
        session.reset(INSTRUCTION, view_scores=BOTH)
        assert kept_by(session)[0] == expected((0, 1))


def test_a_new_task_ends_the_one_before(robot: Path, answerer: Callable[..., Path]) -> None:
    bundle = answerer(template=ENDLESS)
    with AnsweringScorer(Bundle.open(bundle), Bundle.open(robot).manifest) as scorer:
        images = tiny_observation().images
        tasks = [scorer.begin(INSTRUCTION) for _ in range(3)]
        for task in tasks:
            task.look(images)
        for task in tasks[:2]:
            assert task.wait(10)
            with pytest.raises(errors.EngineError, match="another task has begun"):
                task.scores({})
        assert not tasks[2].wait(0)
        with pytest.raises(errors.ViewsUnscoredError):
            tasks[2].scores({})
    assert tasks[2].wait(10), "leaving ends the last one"


@pytest.mark.parametrize("attends", [True, False])
def test_no_bundle_stays_in_memory_beside_the_programs_made_of_it(
    robot: Path, scorer: Path, answerer: Callable[..., Path], *, attends: bool
) -> None:
    def bundles() -> set[int]:
        return {id(each) for each in gc.get_objects() if type(each) is Bundle}

    before, answering = bundles(), answerer()
    with serving(robot, scorer if attends else answering, answerer=answering):
        gc.collect()
        assert bundles() <= before
