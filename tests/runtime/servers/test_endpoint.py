"""What only a clock in the test's hand, or a message that our client would not send, can show."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from saccade.proto import errors
from saccade.proto.codec import tensor_to_wire
from saccade.proto.v1 import control_pb2 as wire
from saccade.proto.versions import WIRE_VERSION
from saccade.runtime.clock import clock_id
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.servers.endpoint import Endpoint
from saccade.runtime.session import Session
from saccade.runtime.transports.wire_format import observation_to_wire
from tests.tiny_bundle import tiny_observation

LEASE_NS = 1000


class ManualClock:
    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def endpoint(program: ProgramExecutor, clock: ManualClock) -> Iterator[Endpoint]:
    endpoint = Endpoint(program, lease_ns=LEASE_NS, max_age_ns=100, clock=clock)
    yield endpoint
    endpoint.shut_down()


def open_session(endpoint: Endpoint, *, clock: str = "", name: str = "one") -> str:
    request = wire.OpenRequest(wire_version=WIRE_VERSION, client_name=name, clock_id=clock)
    token = endpoint.open(request).session_token
    endpoint.reset(wire.ResetRequest(session_token=token, instruction="push"))
    return token


def observation(token: str, *, sequence: int = 1, captured_ns: int = 0) -> wire.Observation:
    return observation_to_wire(
        tiny_observation(sequence=sequence, captured_ns=captured_ns), token=token, profile=""
    )


def test_a_lease_lasts_until_somebody_else_takes_it(endpoint: Endpoint, clock: ManualClock) -> None:
    first = open_session(endpoint)
    clock.now_ns += LEASE_NS - 1
    with pytest.raises(errors.LeaseHeldError, match="owned by 'one'"):
        open_session(endpoint, name="two")
    clock.now_ns += LEASE_NS
    assert endpoint.act(observation(first)).sequence == 1, "late, but nobody took it: the owner goes on"
    clock.now_ns += LEASE_NS
    second = open_session(endpoint, name="two")
    with pytest.raises(errors.NoSessionError, match="may have been taken over"):
        endpoint.act(observation(first, sequence=2))
    assert endpoint.act(observation(second)).sequence == 1


def test_every_call_renews_the_lease(endpoint: Endpoint, clock: ManualClock) -> None:
    token = open_session(endpoint)
    for sequence in range(1, 6):
        clock.now_ns += LEASE_NS - 1
        endpoint.act(observation(token, sequence=sequence))
    with pytest.raises(errors.LeaseHeldError):
        open_session(endpoint, name="two")


def test_age_counts_from_capture_on_our_clock_and_from_arrival_on_another(
    endpoint: Endpoint, clock: ManualClock
) -> None:
    clock.now_ns = 10_000
    token = open_session(endpoint, clock=clock_id())
    with pytest.raises(errors.StaleObservationError):
        endpoint.act(observation(token, captured_ns=9_000))
    endpoint.close(wire.CloseRequest(session_token=token))
    token = open_session(endpoint, clock="the clock of another host")
    assert endpoint.act(observation(token, captured_ns=9_000)).captured_monotonic_ns == 9_000
    clock.now_ns = 10_101
    with pytest.raises(errors.StaleObservationError, match=r"found 0\.0 ms"):
        endpoint.act(observation(token, sequence=2), arrived_ns=10_000)


def test_by_default_an_observation_may_be_as_old_as_a_chunk_lasts(
    program: ProgramExecutor, clock: ManualClock
) -> None:
    endpoint = Endpoint(program, clock=clock)
    action = program.manifest.action
    asked, limits = (0, 7, 1 << 60), []
    for max_age_ns in asked:
        reply = endpoint.open(wire.OpenRequest(wire_version=WIRE_VERSION, max_age_ns=max_age_ns))
        endpoint.close(wire.CloseRequest(session_token=reply.session_token))
        limits.append(reply.max_age_ns)
    endpoint.shut_down()
    lasts_ns = action.chunk / action.control_hz * 1e9
    assert limits == [lasts_ns, 7, lasts_ns], "a client may ask for less, not for more"


def test_a_chunk_has_no_telemetry_unless_it_was_asked_for(endpoint: Endpoint) -> None:
    request = observation(open_session(endpoint))
    assert not endpoint.act(request).HasField("telemetry")
    request.sequence, request.wants_telemetry = 2, True
    assert endpoint.act(request).HasField("telemetry")


def test_another_wire_version_is_refused(endpoint: Endpoint) -> None:
    with pytest.raises(errors.VersionError, match="expected wire version 1, found 2"):
        endpoint.open(wire.OpenRequest(wire_version=2))


def test_a_view_that_comes_twice_is_refused(endpoint: Endpoint) -> None:
    request = observation(open_session(endpoint))
    request.images.append(request.images[0])
    with pytest.raises(
        errors.ImageError, match=r"expected each view once, found \['scene', 'wrist', 'scene'\]"
    ):
        endpoint.act(request)


def test_a_tensor_that_lies_about_its_size_is_refused(endpoint: Endpoint) -> None:
    request = observation(open_session(endpoint))
    request.images[0].pixels.shape[0] = 1 << 30
    with pytest.raises(errors.MessageError, match="expected 25769803776 bytes"):
        endpoint.act(request)


def test_only_the_newest_of_a_burst_is_used(endpoint: Endpoint) -> None:
    token = open_session(endpoint)
    replies: dict[int, wire.StreamReply] = {}
    done = threading.Semaphore(0)

    def answer(sequence: int, reply: wire.StreamReply) -> None:
        replies[sequence] = reply
        done.release()

    with endpoint._engine_lock:  # the engine is busy with a step
        for sequence in range(1, 6):
            endpoint.submit(observation(token, sequence=sequence), lambda reply, n=sequence: answer(n, reply))
            if sequence == 1:
                wait_until_taken(endpoint)
    for _ in range(5):
        assert done.acquire(timeout=10)
    assert [replies[n].WhichOneof("reply") for n in range(1, 6)] == [
        "chunk",
        "error",
        "error",
        "error",
        "chunk",
    ]
    assert {replies[n].error.code for n in (2, 3, 4)} == {"observation.superseded"}
    assert [replies[n].error.sequence for n in (2, 3, 4)] == [2, 3, 4]
    assert endpoint.counters.snapshot()["superseded"] == 3


def wait_until_taken(endpoint: Endpoint) -> None:
    while endpoint._slot._item is not None:
        pass


def test_stop_does_not_wait_for_the_engine(endpoint: Endpoint) -> None:
    token = open_session(endpoint)
    with endpoint._engine_lock:
        endpoint.stop(wire.StopRequest(reason="now"))
    with pytest.raises(errors.StoppedError, match="now"):
        endpoint.act(observation(token))


def test_a_stop_during_a_reset_is_not_erased(endpoint: Endpoint) -> None:
    token = open_session(endpoint)

    def stopped_meanwhile() -> bool:
        endpoint.stop(wire.StopRequest(reason="second thoughts"))
        return True

    endpoint.stop(wire.StopRequest(reason="first"))
    release = wire.ResetRequest(session_token=token, instruction="push", release_stop=True)
    with pytest.raises(errors.StoppedError, match="second thoughts"):
        endpoint.reset(release, is_wanted=stopped_meanwhile)
    assert endpoint.describe(wire.DescribeRequest()).is_stopped
    endpoint.reset(release)
    assert not endpoint.describe(wire.DescribeRequest()).is_stopped


def test_a_stop_during_a_plain_reset_is_not_erased(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = open_session(endpoint)
    reset = Session.reset

    def stopped_meanwhile(session: Session, instruction: str, **more: Any) -> tuple[str, ...]:
        unknown = reset(session, instruction, **more)
        endpoint.stop(wire.StopRequest(reason="now"))
        return unknown

    monkeypatch.setattr(Session, "reset", stopped_meanwhile)
    endpoint.reset(wire.ResetRequest(session_token=token, instruction="push"))
    with pytest.raises(errors.StoppedError, match="now"):
        endpoint.act(observation(token))


def test_a_call_whose_caller_has_gone_does_nothing(endpoint: Endpoint) -> None:
    token = open_session(endpoint)
    endpoint.stop(wire.StopRequest(reason="now"))
    release = wire.ResetRequest(session_token=token, instruction="push", release_stop=True)
    with pytest.raises(errors.DeadlineError, match="nothing was done"):
        endpoint.reset(release, is_wanted=lambda: False)
    assert endpoint.describe(wire.DescribeRequest()).is_stopped


def test_an_observation_from_before_the_reset_is_not_acted_upon(
    endpoint: Endpoint, clock: ManualClock
) -> None:
    clock.now_ns = 100
    token = open_session(endpoint)
    with pytest.raises(errors.SupersededError, match="before its reset"):
        endpoint.act(observation(token, sequence=500), arrived_ns=99)
    assert endpoint.act(observation(token)).sequence == 1


def test_a_stranger_does_not_displace_the_owner(endpoint: Endpoint) -> None:
    token = open_session(endpoint)
    replies: list[wire.StreamReply] = []
    done = threading.Semaphore(0)

    def answer(reply: wire.StreamReply) -> None:
        replies.append(reply)
        done.release()

    with endpoint._engine_lock:  # the engine is busy with a step
        endpoint.submit(observation(token), answer)
        wait_until_taken(endpoint)
        endpoint.submit(observation(token, sequence=2), answer)
        endpoint.submit(observation("guessed", sequence=3), answer)
        assert [reply.error.code for reply in replies] == ["session.none"]
    for _ in range(3):
        assert done.acquire(timeout=10)
    assert [reply.chunk.sequence for reply in replies[1:]] == [1, 2]


def test_a_stream_that_breaks_leaves_its_owner_a_moment(endpoint: Endpoint, clock: ManualClock) -> None:
    clock.now_ns = 1
    token = open_session(endpoint)
    endpoint.abandon(token)
    with pytest.raises(errors.LeaseHeldError):
        open_session(endpoint, name="two")
    clock.now_ns += LEASE_NS
    second = open_session(endpoint, name="two")
    assert endpoint.act(observation(second)).sequence == 1


def test_a_daemon_that_drains_begins_nothing(endpoint: Endpoint) -> None:
    token = open_session(endpoint)
    endpoint.drain()
    replies: list[wire.StreamReply] = []
    endpoint.submit(observation(token), replies.append)
    assert replies[0].error.code == "serve.draining"
    for call in (lambda: endpoint.act(observation(token)), lambda: open_session(endpoint, name="two")):
        with pytest.raises(errors.DrainingError, match="hold the arm"):
            call()
    assert not endpoint.describe(wire.DescribeRequest()).is_ready


def test_a_defect_is_logged_and_leaves_as_an_internal_error(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    error = endpoint.failure(ZeroDivisionError("secret path"))
    assert isinstance(error, errors.InternalError)
    assert "secret" not in error.message
    assert "ZeroDivisionError: secret path" in caplog.text
    assert endpoint.counters.snapshot()["errors.serve.internal"] == 1


def test_counters_tell_what_happened(endpoint: Endpoint) -> None:
    token = open_session(endpoint)
    endpoint.act(observation(token))
    broken = observation(token, sequence=2)
    broken.proprio.CopyFrom(tensor_to_wire(tiny_observation().proprio[:1]))
    with pytest.raises(errors.ProprioError) as raised:
        endpoint.act(broken)
    endpoint.failure(raised.value)
    counters = endpoint.describe(wire.DescribeRequest()).counters
    assert (counters["observations"], counters["chunks"], counters["errors.observation.proprio"]) == (2, 1, 1)


def test_while_it_spins_before_the_next_observation_it_serves_and_can_end(
    program: ProgramExecutor, clock: ManualClock
) -> None:
    """The clock stands, so that the spin would last for ever."""
    period_ns = 50_000_000
    endpoint = Endpoint(program, lease_ns=10 * period_ns, max_age_ns=0, clock=clock, spin_ns=1_000_000)
    try:
        token = open_session(endpoint)
        for sequence in range(1, 7):
            assert endpoint.act(observation(token, sequence=sequence)).sequence == sequence
            clock.now_ns += period_ns
        assert endpoint._spin.left_ns() == 0
        came = threading.Event()
        endpoint.submit(observation(token, sequence=7), lambda reply: came.set())
        assert came.wait(30)
        clock.now_ns += period_ns
        assert endpoint._spin.left_ns() == 0
    finally:
        endpoint.shut_down()
