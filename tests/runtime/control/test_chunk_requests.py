"""The thread that asks: what it hands over, and when it stops asking."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from saccade.proto.errors import FrozenCameraError, LeaseHeldError
from saccade.runtime.control.arm import Frame
from saccade.runtime.control.chunk_requests import ChunkRequests
from saccade.runtime.observation import ActionChunk, Observation

WAIT_S = 60


class Answers:
    """A session that answers when it is let, or raises what it is given."""

    def __init__(self) -> None:
        self.sequences: list[int] = []
        self.errors: list[Exception] = []
        self.asked, self.may_answer = threading.Semaphore(0), threading.Semaphore(0)

    def reset(self, instruction: str) -> None:
        """Nothing to remember."""

    def act(self, observation: Observation, profile: str | None = None) -> ActionChunk:
        self.sequences.append(observation.sequence)
        self.asked.release()
        assert self.may_answer.acquire(timeout=WAIT_S)
        if self.errors:
            raise self.errors.pop()
        return ActionChunk(np.zeros((1, 1), np.float32), "full", 0, observation.sequence, 0)


class Asking:
    def __init__(self) -> None:
        self.session = Answers()
        self.taken: list[int] = []
        self.took, self.failed = threading.Semaphore(0), threading.Event()
        self.failure: Exception | None = None
        self.requests = ChunkRequests(
            self.session, lambda: Frame({}, np.zeros(1, np.float32), 0), self.take, self.fail
        )

    def take(self, chunk: ActionChunk) -> None:
        self.taken.append(chunk.sequence)
        self.took.release()

    def fail(self, error: Exception) -> None:
        self.failure = error
        self.failed.set()

    def end(self) -> None:
        self.session.may_answer.release(10)
        self.requests.close()


def begun() -> Asking:
    asking = Asking()
    asking.requests.start()
    with asking.requests.paused():
        assert asking.session.sequences == [], "it begins paused"
    assert asking.session.asked.acquire(timeout=WAIT_S)
    return asking


def test_what_was_asked_in_an_episode_before_is_never_handed_over() -> None:
    asking = begun()
    letting = threading.Timer(0.05, asking.session.may_answer.release)
    letting.start()
    with asking.requests.paused():  # waits for the call that runs
        assert asking.session.sequences == [1]
    assert asking.session.asked.acquire(timeout=WAIT_S)
    asking.session.may_answer.release()
    assert asking.took.acquire(timeout=WAIT_S)
    asking.end()
    assert asking.taken[0] == 1 and asking.session.sequences[:2] == [1, 1], "each episode counts from 1"


def test_a_refusal_is_counted_and_the_next_frame_is_sent() -> None:
    asking = begun()
    asking.session.errors = [FrozenCameraError("frozen")]
    asking.session.may_answer.release(2)
    assert asking.took.acquire(timeout=WAIT_S)
    asking.end()
    assert asking.taken[0] == 2 and asking.failure is None
    assert asking.requests.counters["errors.observation.frozen"] == 1


@pytest.mark.parametrize("error", [LeaseHeldError("held"), ZeroDivisionError("a defect")])
def test_what_ends_a_session_ends_the_asking(error: Exception) -> None:
    asking = begun()
    asking.session.errors = [error]
    asking.session.may_answer.release(2)
    assert asking.failed.wait(WAIT_S)
    asking.end()
    assert asking.failure is error and asking.session.sequences == [1]


def test_a_block_that_raises_leaves_it_paused() -> None:
    asking = begun()
    asking.session.may_answer.release(10)
    with pytest.raises(ZeroDivisionError), asking.requests.paused():
        raise ZeroDivisionError
    count = len(asking.session.sequences)
    asking.requests.close()
    assert len(asking.session.sequences) == count
