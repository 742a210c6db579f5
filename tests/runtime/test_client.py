"""Client and daemon together, over both transports, on loopback."""

import contextlib
import dataclasses
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from saccade.proto import errors
from saccade.proto.v1 import control_pb2 as wire
from saccade.runtime.client import Client, RemoteSession
from saccade.runtime.clock import monotonic_ns
from saccade.runtime.daemon import Daemon, DaemonConfig
from saccade.runtime.observation import ActionChunk, Observation
from saccade.runtime.servers.endpoint import Endpoint
from saccade.runtime.transports.registry import TransportName
from tests.tiny_bundle import (
    GRID,
    TinyOptions,
    tiny_fate,
    tiny_observation,
    tiny_step,
    write_tiny_bundle,
)

INSTRUCTION = "push the red cube"


def observations(count: int, *, wants_telemetry: bool = False) -> Iterator[Observation]:
    for index in range(count):
        yield tiny_observation(
            index, sequence=index + 1, captured_ns=monotonic_ns(), wants_telemetry=wants_telemetry
        )


def test_describe_tells_the_bundle_and_the_state(client: Client) -> None:
    description = client.describe()
    assert description.manifest.name == "tiny"
    assert description.engine == "ort-cpu"
    assert description.has_our_clock
    assert (description.is_ready, description.is_owned, description.is_stopped) == (True, False, False)
    with client.open():
        assert client.describe().is_owned
    assert not client.describe().is_owned


def test_actions_are_those_of_the_model(client: Client) -> None:
    with client.open("keep50") as session:
        for _ in range(2):
            session.reset(INSTRUCTION)
            carry = np.zeros(GRID.tokens, np.float32)
            for index, observation in enumerate(observations(4, wants_telemetry=True)):
                chunk = session.act(observation)
                actions, kept, carry = tiny_step(observation, carry, 4 if index else 8, 4)
                np.testing.assert_allclose(chunk.actions, actions, atol=1e-6)
                assert chunk.telemetry is not None
                assert chunk.telemetry.kept.tolist() == kept.tolist()
                assert chunk.profile == ("keep50" if index else "full")
                assert chunk.captured_ns == observation.captured_ns
                assert chunk.timings_ns["total"] >= chunk.timings_ns["stage.step"] > 0


def test_the_profile_may_change_from_step_to_step(client: Client) -> None:
    with client.open() as session:
        session.reset(INSTRUCTION)
        profiles = ["full", "keep50", "full", "keep50"]
        asked = zip(observations(4, wants_telemetry=True), profiles, strict=True)
        found = [session.act(each, profile) for each, profile in asked]
        assert [chunk.profile for chunk in found] == profiles
        assert [chunk.telemetry and len(chunk.telemetry.kept) for chunk in found] == [8, 4, 8, 4]


def test_telemetry_comes_to_those_who_ask(client: Client) -> None:
    with client.open("keep50") as session:
        session.reset(INSTRUCTION)
        asked = (
            dataclasses.replace(each, wants_telemetry=each.sequence % 2 == 0) for each in observations(6)
        )
        chunks = [session.act(each) for each in asked]
        assert [chunk.telemetry is not None for chunk in chunks] == [False, True] * 3
        session.reset(INSTRUCTION)
        answers = list(session.stream(observations(1, wants_telemetry=True)))
        silent = list(session.stream([tiny_observation(sequence=2, captured_ns=monotonic_ns())]))
    for answer, has_telemetry in zip(answers + silent, (True, False), strict=True):
        assert isinstance(answer, ActionChunk)
        assert (answer.telemetry is not None) == has_telemetry


@pytest.mark.parametrize("merges", [True, False])
def test_telemetry_says_what_became_of_each_token(tmp_path: Path, *, merges: bool) -> None:
    bundle = write_tiny_bundle(tmp_path / "merging", options=TinyOptions(merges=merges), warmup_steps=0)
    config = DaemonConfig(bundle, bind="127.0.0.1:0", zmq_bind="127.0.0.1:0", threads=1, max_age_ns=0)
    with Daemon(config) as daemon:
        for transport, address in (("grpc", daemon.address), ("zmq", daemon.zmq_address)):
            with Client(str(address), transport=transport) as client, client.open("keep50") as session:  # type: ignore[arg-type]
                session.reset(INSTRUCTION)
                carry = np.zeros(GRID.tokens, np.float32)
                for observation in observations(5, wants_telemetry=True):
                    found = session.act(observation).telemetry
                    _, kept, carry = tiny_step(observation, carry, 4, 4)
                    assert found is not None
                    assert found.kept.tolist() == kept.tolist()
                    assert found.fate.tolist() == tiny_fate(kept, merges=merges)
                    assert (found.kept.dtype, found.fate.dtype) == (np.int64, np.int64)


def test_a_stream_answers_every_observation_once(client: Client) -> None:
    with client.open() as session:
        session.reset(INSTRUCTION)
        answers = list(session.stream(observations(30)))
    chunks = [answer for answer in answers if isinstance(answer, ActionChunk)]
    others = [answer for answer in answers if not isinstance(answer, ActionChunk)]
    assert len(answers) == 30
    assert all(isinstance(other, errors.SupersededError) for other in others)
    assert [chunk.sequence for chunk in chunks] == sorted({chunk.sequence for chunk in chunks})
    assert chunks[-1].sequence == 30, "the newest is never dropped"


def test_a_stream_goes_on_after_an_unusable_observation(client: Client) -> None:
    answered = threading.Semaphore(1)

    def one_after_the_other() -> Iterator[Observation]:
        for index, observation in enumerate(observations(3)):
            answered.acquire()
            yield dataclasses.replace(observation, images={}) if index == 1 else observation

    kinds = []
    with client.open() as session:
        session.reset(INSTRUCTION)
        for answer in session.stream(one_after_the_other()):
            kinds.append(type(answer))
            answered.release()
    assert kinds == [ActionChunk, errors.ImageError, ActionChunk]


def with_images(side: int, dtype: Any, fill: Any = 0) -> Observation:
    images = {view: np.full((side, side, 3), fill, dtype) for view in ("scene", "wrist")}
    return dataclasses.replace(tiny_observation(), images=images)


def test_errors_arrive_as_what_they_are(client: Client) -> None:
    with pytest.raises(errors.UnknownProfileError, match=r"\(full, keep50\), found 'keep7'"):
        client.open("keep7")
    with client.open() as session:
        with pytest.raises(errors.SessionNotResetError, match="expected reset"):
            session.act(tiny_observation())
        with pytest.raises(errors.InstructionError, match="or a question, found nothing"):
            session.reset(" ")
        session.reset(INSTRUCTION)
        with pytest.raises(errors.ProprioError, match="check the sensor of 'x'"):
            session.act(dataclasses.replace(tiny_observation(), proprio=np.full(2, np.nan, np.float32)))
        with pytest.raises(errors.ImageError, match=r"found uint8\[4, 4, 3\]"):
            session.act(with_images(4, np.uint8))
        with pytest.raises(errors.ImageError, match=r"found float32\[8, 8, 3\]"):
            session.act(with_images(8, np.float32))
        with pytest.raises(errors.ImageError, match=r"view .*: expected uint8 pixels"):
            session.act(with_images(8, object, None))
        assert isinstance(session.act(tiny_observation()), ActionChunk)


@pytest.mark.parametrize(
    "proprio", [np.zeros(2, np.float16), np.array([None, 0]), np.zeros(2, np.int64), [[0.0], []]]
)
def test_proprioception_of_another_dtype_is_its_own_error(client: Client, proprio: Any) -> None:
    with client.open() as session:
        session.reset(INSTRUCTION)
        with pytest.raises(errors.ProprioError, match="expected float32"):
            session.act(dataclasses.replace(tiny_observation(), proprio=proprio))


def test_proprioception_of_other_units_is_named_counted_and_logged(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with client.open() as session:
        assert session.reset("push the rad cube") == ("rad",)
        radians = tiny_observation()
        assert session.act(radians).far_proprio == ()
        degrees = dataclasses.replace(radians, proprio=np.float32([45.8, 0.5]), sequence=2)
        assert session.act(degrees).far_proprio == ("x",)
        with pytest.raises(errors.InstructionError, match="of which it knows none"):
            session.reset("xyzzy")
    counters = client.describe().counters
    assert (counters["proprio.far"], counters["instruction.unknown"]) == (1, 1)
    assert "far outside the statistics: check the units of: 'x'" in caplog.text
    assert "the model's tokenizer does not know: 'rad'" in caplog.text


def test_a_daemon_can_be_told_to_refuse_them(tiny: Path) -> None:
    config = DaemonConfig(tiny, bind="127.0.0.1:0", threads=1, refuses_far_proprio=True)
    with Daemon(config) as daemon, Client(daemon.address) as client, client.open() as session:
        session.reset(INSTRUCTION)
        with pytest.raises(errors.ProprioError, match=r"'x' = 45\.8 where -1 to 1 is usual"):
            session.act(
                dataclasses.replace(
                    tiny_observation(), proprio=np.float32([45.8, 0.5]), captured_ns=monotonic_ns()
                )
            )


def test_under_a_deadline_the_daemon_chooses_counts_and_says_so(tiny: Path) -> None:
    config = DaemonConfig(
        tiny, bind="127.0.0.1:0", threads=1, max_age_ns=0, deadline_ns=1, deadline_profiles=("keep50",)
    )
    with Daemon(config) as daemon, Client(daemon.address) as client, client.open() as session:
        session.reset(INSTRUCTION)
        captured_ns = monotonic_ns()
        warm_up, then = (
            session.act(tiny_observation(sequence=sequence, captured_ns=captured_ns), "full")
            for sequence in (1, 2)
        )
        counters = client.describe().counters
    assert (warm_up.profile, then.profile) == ("full", "keep50")
    for chunk, is_switch in ((warm_up, True), (then, False)):
        assert chunk.choice is not None and chunk.choice.is_missed
        assert (chunk.choice.profile, chunk.choice.reason) == ("keep50", "nothing fits")
        assert (chunk.choice.deadline_ns, chunk.choice.is_switch) == (1, is_switch)
    assert (counters["deadline.missed"], counters["deadline.switches"]) == (2, 1)


def test_a_frame_from_before_a_night_in_suspension_is_old(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a machine is suspended ``CLOCK_BOOTTIME`` goes on and ``CLOCK_MONOTONIC`` stands still."""
    night_ns = 8 * 3600 * 1_000_000_000
    with client.open(max_age_ns=1_000_000_000) as session:
        session.reset(INSTRUCTION)
        frame = tiny_observation(captured_ns=monotonic_ns())
        read = time.clock_gettime_ns
        slept = {time.CLOCK_BOOTTIME: night_ns}
        monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: read(clock) + slept.get(clock, 0))
        with pytest.raises(errors.StaleObservationError, match=r"found 288\d\d\d\d\d\.\d ms"):
            session.act(frame)
        (answer,) = session.stream([frame])
        assert isinstance(answer, errors.StaleObservationError), "the daemon's clock goes on too"


def test_nobody_waits_for_longer_than_a_chunk_would_be_acted_upon(
    daemon: Daemon, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that hangs: its engine is busy until the call is over."""
    with client.open(max_age_ns=200_000_000) as session:
        session.reset(INSTRUCTION)
        monkeypatch.setattr(session, "_deadline_s", 1e4)  # the age is what ends the waiting, or nothing
        with (
            daemon.endpoint._engine_lock,
            pytest.raises(errors.LateChunkError, match=r"within 200\.0 ms .* none until then: hold the arm"),
        ):
            session.act(tiny_observation(captured_ns=monotonic_ns()))


def test_a_stale_observation_is_refused_by_capture_time(client: Client) -> None:
    with client.open(max_age_ns=1_000_000_000) as session:
        session.reset(INSTRUCTION)
        assert session.act(tiny_observation(captured_ns=monotonic_ns())).sequence == 1
        old = tiny_observation(captured_ns=monotonic_ns() - 2_000_000_000, sequence=2)
        with pytest.raises(errors.StaleObservationError, match=r"0 to 1000\.0 ms ago, found 20\d\d\.\d ms"):
            session.act(old)


def test_a_chunk_that_arrives_too_late_is_never_returned(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client.open(max_age_ns=1_000_000_000) as session:
        session.reset(INSTRUCTION)
        clock = iter(
            [0, 2_000_000_000, 2_000_000_000]
        )  # when it is sent, when it arrives; when the stream's arrives
        monkeypatch.setattr("saccade.runtime.client.monotonic_ns", lambda: monotonic_ns() + next(clock))
        with pytest.raises(
            errors.LateChunkError, match=r"within 1000\.0 ms .* found it arrived after 20\d\d\.\d ms"
        ):
            session.act(tiny_observation(captured_ns=monotonic_ns()))
        answers = list(session.stream([tiny_observation(captured_ns=monotonic_ns(), sequence=2)]))
        assert [type(answer) for answer in answers] == [errors.LateChunkError]


def test_a_capture_time_of_another_clock_is_refused(client: Client) -> None:
    with client.open(max_age_ns=1_000_000_000) as session:
        session.reset(INSTRUCTION)
        with pytest.raises(
            errors.StaleObservationError,
            match=r"from monotonic_ns\(\) of saccade\.runtime\.clock",
        ):
            session.act(tiny_observation(captured_ns=time.time_ns()))
        (answer,) = session.stream([tiny_observation(captured_ns=time.time_ns())])
        assert isinstance(answer, errors.StaleObservationError)


def test_what_the_observations_raise_ends_the_stream_and_is_raised(client: Client) -> None:
    def unplugged() -> Iterator[Observation]:
        yield from observations(1)
        raise ZeroDivisionError("camera unplugged")

    with client.open() as session:
        session.reset(INSTRUCTION)
        with pytest.raises(ZeroDivisionError, match="camera unplugged"):
            list(session.stream(unplugged()))


def test_leaving_a_stream_early_keeps_the_robot(client: Client) -> None:
    def endless() -> Iterator[Observation]:
        for sequence in itertools.count(1):
            yield tiny_observation(sequence=sequence, captured_ns=monotonic_ns())
            time.sleep(0.005)

    with client.open() as session:
        session.reset(INSTRUCTION)
        for answer in session.stream(endless()):
            assert isinstance(answer, (ActionChunk, errors.SupersededError))
            break
        session.reset(INSTRUCTION)
        assert isinstance(session.act(tiny_observation()), ActionChunk)
        assert client.describe().is_owned


def test_a_stop_gets_through_while_every_worker_waits(
    daemon: Daemon, client: Client, request: pytest.FixtureRequest
) -> None:
    transport = request.node.callspec.params["client"]
    address = daemon.address if transport == "grpc" else daemon.zmq_address
    assert address is not None
    with client.open() as session, contextlib.ExitStack() as stack:
        session.reset(INSTRUCTION)
        calls = session._pack(tiny_observation(), None)
        clients = [stack.enter_context(Client(address, transport=transport)) for _ in range(20)]

        def act(each: Client) -> None:
            with contextlib.suppress(errors.SaccadeError):  # one is stopped, the others never begin
                each._transport.call("Act", calls, wire.ActionChunk, deadline_s=20)

        with daemon.endpoint._engine_lock:  # the engine is busy with a step
            threads = [threading.Thread(target=act, args=(each,)) for each in clients]
            for thread in threads:
                thread.start()
            while daemon.endpoint.counters.snapshot().get("observations", 0) < 4:
                time.sleep(0.001)  # as many as there are workers, or more
            client.stop("hand in the cell")
            assert client.describe().is_stopped
        for thread in threads:
            thread.join()
        assert client.describe().counters.get("chunks", 0) == 0
        session.reset(INSTRUCTION, release_stop=True)


def test_a_bundle_that_is_replaced_on_disk_changes_nothing(daemon: Daemon, tiny: Path) -> None:
    def act() -> ActionChunk:
        with Client(daemon.address) as client, client.open() as session:
            session.reset(INSTRUCTION)
            return session.act(tiny_observation())

    before = act()
    text = (tiny / "statistics.json").read_text()
    (tiny / "statistics.json").write_text(text.replace("0.02", "0.04"))
    (tiny / "tokenizer.json").write_text("{}")
    np.testing.assert_array_equal(act().actions, before.actions)


def test_a_call_that_failed_is_not_made_later(tiny: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with Client(address, transport="zmq", deadline_s=0.3) as client:
        with pytest.raises(errors.UnavailableError):
            client.open()
        config = DaemonConfig(tiny, bind="127.0.0.1:0", zmq_bind=address, threads=1)
        with Daemon(config), Client(address, transport="zmq") as other, other.open():
            assert other.describe().is_owned


def test_silence_is_told_apart_from_nobody(daemon: Daemon) -> None:
    for transport, address in (("grpc", daemon.address), ("zmq", daemon.zmq_address)):
        with Client(str(address), transport=transport) as client, client.open() as session:  # type: ignore[arg-type]
            session.reset(INSTRUCTION)
            session._deadline_s = 0.2
            with (
                daemon.endpoint._engine_lock,
                pytest.raises(errors.DeadlineError, match="is the daemon overloaded"),
            ):
                session.act(tiny_observation())
            session._deadline_s = 10


def test_an_observation_while_no_session_is_open_is_refused(client: Client) -> None:
    session = client.open()
    session.reset(INSTRUCTION)
    session.close()
    with pytest.raises(errors.NoSessionError, match="open a session first"):
        session.act(tiny_observation())
    (answer,) = session.stream(observations(1))
    assert isinstance(answer, errors.NoSessionError)


def test_the_robot_has_one_owner(client: Client) -> None:
    with client.open(), pytest.raises(errors.LeaseHeldError, match="owned by 'first client' for up to"):
        client.open()
    with client.open():
        assert client.describe().is_owned


def test_stop_is_latched_until_a_reset_releases_it(client: Client) -> None:
    with client.open() as session:
        session.reset(INSTRUCTION)
        client.stop("hand in the cell")
        client.stop("hand in the cell")
        assert client.describe().is_stopped
        with pytest.raises(errors.StoppedError, match=r"found it set \(hand in the cell\)"):
            session.act(tiny_observation())
        with pytest.raises(errors.StoppedError, match="release_stop"):
            session.reset(INSTRUCTION)
        session.reset(INSTRUCTION, release_stop=True)
        assert isinstance(session.act(tiny_observation()), ActionChunk)


def test_an_oversize_observation_is_refused(daemon: Daemon) -> None:
    with Client(daemon.address) as client, client.open() as session:
        session.reset(INSTRUCTION)
        with pytest.raises(errors.MessageError, match="expected a message that the daemon accepts"):
            session.act(with_images(1024, np.uint8))
        assert isinstance(session.act(tiny_observation()), ActionChunk)


@pytest.mark.parametrize("transport", ["grpc", "zmq"])
def test_a_message_may_be_as_large_as_the_daemon_says(
    tiny: Path, transport: TransportName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Endpoint, "max_message_bytes", 80 << 20)
    config = DaemonConfig(tiny, bind="127.0.0.1:0", zmq_bind="127.0.0.1:0", threads=1, max_age_ns=0)
    with Daemon(config) as daemon:
        address = daemon.address if transport == "grpc" else daemon.zmq_address
        assert address is not None
        with Client(address, transport=transport) as client, client.open() as session:
            session.reset(INSTRUCTION)
            with pytest.raises(
                errors.ImageError
            ):  # it arrived: 70 MB, though of another size than the view's
                session.act(with_images(3415, np.uint8))


@pytest.mark.parametrize("transport", ["grpc", "zmq"])
def test_nobody_at_the_address_is_said_so(transport: TransportName) -> None:
    with (
        Client("127.0.0.1:9", transport=transport, deadline_s=0.5) as client,
        pytest.raises(
            errors.UnavailableError, match=r"expected a saccade daemon at 127\.0\.0\.1:9.* start it with"
        ),
    ):
        client.describe()


def test_a_daemon_that_is_back_is_found(tiny: Path) -> None:
    """The number of tries, 0.7 s apart in all, is less than gRPC's own back-off would take after a second."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with Client(address) as client:
        for _ in range(20):
            with pytest.raises(errors.UnavailableError):
                client.describe()
            time.sleep(0.05)
        with Daemon(DaemonConfig(tiny, bind=address, threads=1)):
            for _ in range(14):
                with contextlib.suppress(errors.UnavailableError):
                    assert client.describe().is_ready
                    return
                time.sleep(0.05)
    pytest.fail("the daemon was not found again")


VANISHING_CLIENT = """
import itertools, sys, time
from saccade.runtime.client import Client, RemoteSession
from saccade.runtime.clock import monotonic_ns
from tests.tiny_bundle import tiny_observation

def endless():
    for sequence in itertools.count(1):
        yield tiny_observation(sequence=sequence, captured_ns=monotonic_ns())
        time.sleep(0.01)

session = Client(sys.argv[1], transport=sys.argv[2], name="vanishing client").open()
session.reset("push")
for _ in session.stream(endless()) if sys.argv[3] == "stream" else (session.act(each) for each in endless()):
    print("answered", flush=True)
    if sys.argv[3] == "act":
        time.sleep(60)  # between two calls
"""


@pytest.mark.parametrize("how", ["stream", "act"])
@pytest.mark.parametrize("transport", ["grpc", "zmq"])
def test_a_client_that_vanishes_frees_the_robot(tmp_path: Path, transport: TransportName, how: str) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    config = DaemonConfig(
        bundle, bind="127.0.0.1:0", zmq_bind="127.0.0.1:0", threads=1, lease_ns=60_000_000_000
    )  # far longer than is waited for the robot
    with Daemon(config) as daemon:
        address = daemon.address if transport == "grpc" else daemon.zmq_address
        assert address is not None
        arguments = [sys.executable, "-c", VANISHING_CLIENT, address, transport, how]
        root = Path(__file__).parents[2]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=root) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"answered\n"
            with Client(address, transport=transport) as client:
                with pytest.raises(errors.LeaseHeldError, match="owned by 'vanishing client'"):
                    client.open()
                os.kill(process.pid, signal.SIGKILL)
                session = wait_for_the_robot(client)
                session.reset(INSTRUCTION)
                (observation,) = observations(1)
                assert isinstance(session.act(observation), ActionChunk)


def test_a_session_outlives_streams_and_questions_of_its_client(daemon: Daemon) -> None:
    """What ends the lease is the end of the client, not of one of its connections."""
    for transport, address in (("grpc", daemon.address), ("zmq", daemon.zmq_address)):
        with Client(str(address), transport=transport) as client, client.open() as session:  # type: ignore[arg-type]
            session.reset(INSTRUCTION)
            assert len(list(session.stream(observations(2)))) == 2
            with Client(str(address), transport=transport) as other:  # type: ignore[arg-type]
                other.describe()
            session.reset(INSTRUCTION)
            assert session.act(next(observations(1))).sequence == 1
            assert "vanished" not in client.describe().counters


def test_a_client_that_hangs_up_frees_the_robot(client: Client, daemon: Daemon) -> None:
    client.open().reset(INSTRUCTION)
    client.close()
    with Client(daemon.address) as other:
        wait_for_the_robot(other).close()
    with pytest.raises(errors.TransportError, match="expected an open client, found it closed"):
        client.describe()


def test_a_daemon_with_an_idle_client_ends_at_once(daemon: Daemon) -> None:
    """The call that stands beside a session is ended by the daemon; it is not waited for."""
    with Client(daemon.address) as client:
        client.open()
        while not daemon.endpoint._lease._owner.farewells:  # type: ignore[union-attr]
            time.sleep(0.001)
        daemon.endpoint.drain()
        attendance = client._transport._attendance  # type: ignore[attr-defined]
        assert attendance[1].code() is grpc.StatusCode.OK
        assert "vanished" not in daemon.endpoint.counters.snapshot()


def wait_for_the_robot(client: Client) -> RemoteSession:
    for _ in range(300):
        try:
            return client.open()
        except errors.LeaseHeldError:  # noqa: PERF203
            time.sleep(0.05)
    pytest.fail(f"the robot was never freed: {client.describe().counters}")


def test_what_is_no_unicode_text_is_refused_before_it_is_sent(client: Client) -> None:
    with client.open() as session:
        session.reset(INSTRUCTION)
        for text in ("push \udcff", "push \0"):
            with pytest.raises(errors.InstructionError, match="or a question in Unicode text, found"):
                session.reset(text)
        with pytest.raises(errors.InputError, match="expected names of views in Unicode, found"):
            session.reset(INSTRUCTION, view_scores={"\udcff": 1.0})
        for observation in observations(1):
            with pytest.raises(errors.InputError, match="expected names of views and profile in Unicode"):
                session.act(observation, "\udcff")
        assert session.act(next(observations(1))).sequence == 1  # the episode goes on
    with pytest.raises(errors.InputError, match="expected names of client and profile in Unicode"):
        client.open("\udcff")
    client.stop("whoever this is: \udcff")
    with client.open() as session, pytest.raises(errors.StoppedError, match=r"whoever this is: \\udcff"):
        session.reset(INSTRUCTION)


def test_the_daemon_refuses_a_nul_too(client: Client) -> None:
    with client.open() as session:
        request = wire.ResetRequest(session_token=session._token, instruction="push \0")
        with pytest.raises(errors.InstructionError, match="in Unicode text, found a NUL as character 5"):
            client._call("Reset", request, wire.ResetReply)
