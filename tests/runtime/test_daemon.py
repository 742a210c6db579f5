import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
import zmq
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from saccade.proto import errors
from saccade.proto.v1 import control_pb2 as wire
from saccade.runtime.client import Client
from saccade.runtime.daemon import Daemon, DaemonConfig, _ending_signals, check_bind
from saccade.runtime.servers.grpc_server import GrpcServer
from tests.tiny_bundle import tiny_observation


def serve(bundle: Path, *options: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "saccade.runtime.commands.main",
        "serve",
        str(bundle),
        "--json",
        "--threads",
        "1",
    ]
    return subprocess.Popen(
        [*command, "--bind", "127.0.0.1:0", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_health_says_serving(daemon: Daemon) -> None:
    with grpc.insecure_channel(daemon.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "saccade.v1.Control"):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_the_service(daemon: Daemon) -> None:
    with grpc.insecure_channel(daemon.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (reply,) = stub.ServerReflectionInfo(iter([request]), timeout=10)
        assert "saccade.v1.Control" in {each.name for each in reply.list_services_response.service}


def test_a_port_in_use_is_said_so_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for config in (
            DaemonConfig(tmp_path / "no bundle", bind=address),
            DaemonConfig(tmp_path / "no bundle", bind="127.0.0.1:0", zmq_bind=address),
        ):
            with pytest.raises(
                errors.AddressInUseError, match=rf"expected to bind {address}.* choose another port"
            ):
                Daemon(config).__enter__()


@pytest.mark.parametrize("bind", ["0.0.0.0:7447", "192.168.1.5:0", "robot.example:7447", "[::]:7447"])
def test_a_bind_beyond_loopback_must_be_asked_for(bind: str) -> None:
    with pytest.raises(errors.InsecureBindError, match=r"expected a loopback address .* --insecure-bind"):
        check_bind(bind, is_insecure_allowed=False)


@pytest.mark.parametrize("bind", ["localhost", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", ":80", ""])
def test_an_address_that_is_none_is_refused(bind: str) -> None:
    with pytest.raises(errors.ServeError, match=r"expected an address such as 127\.0\.0\.1:7447"):
        check_bind(bind, is_insecure_allowed=False)


def test_an_explicit_insecure_bind_is_served(tiny: Path) -> None:
    config = DaemonConfig(tiny, bind="0.0.0.0:0", is_insecure_bind_allowed=True, threads=1)
    with Daemon(config) as daemon, Client(f"127.0.0.1:{daemon.address.rpartition(':')[2]}") as client:
        assert client.describe().is_ready


def test_a_daemon_that_cannot_start_leaves_nothing_behind(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(server: GrpcServer) -> None:
        assert {"saccade-stream", "saccade-zmq-router"} <= {thread.name for thread in threading.enumerate()}
        raise errors.ServeError("no")

    monkeypatch.setattr(GrpcServer, "start", fail)
    with pytest.raises(errors.ServeError, match="no"):
        Daemon(DaemonConfig(tiny, bind="127.0.0.1:0", zmq_bind="127.0.0.1:0")).__enter__()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("saccade")] == []


def test_an_instruction_that_the_model_has_no_row_for_is_refused_over_the_wire(tiny: Path) -> None:
    manifest = json.loads((tiny / "manifest.json").read_text())
    manifest["instruction"]["embedding_rows"] = 6
    (tiny / "manifest.json").write_text(json.dumps(manifest))
    config = DaemonConfig(tiny, bind="127.0.0.1:0", threads=1)
    with Daemon(config) as daemon, Client(daemon.address) as client, client.open() as session:
        with pytest.raises(errors.InstructionError, match="found 'cube', token 6, in 'push the red cube'"):
            session.reset("push the red cube")
        session.reset("push the red")


def test_numbers_that_make_no_sense_are_refused(tiny: Path) -> None:
    for field in ("lease_ns", "max_age_ns", "max_frozen_frames"):
        with pytest.raises(errors.ServeError, match=f"{field}: expected 0 or more, found -1"):
            DaemonConfig(tiny, **{field: -1})  # type: ignore[arg-type]
    for field in ("threads", "answerer_threads"):
        with pytest.raises(errors.InputError, match=rf"^{field}: expected 0 to \d+.*, found 9999"):
            DaemonConfig(tiny, **{field: 9999})  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_drains_and_ends_with_0(tiny: Path, number: signal.Signals) -> None:
    with serve(tiny, "--zmq-bind", "127.0.0.1:0") as process:
        assert process.stdout is not None
        addresses = json.loads(process.stdout.readline())
        with Client(addresses["grpc"]) as client:
            session = client.open()
            session.reset("push")
            process.send_signal(number)
            assert process.wait(timeout=30) == 0
            with pytest.raises(errors.UnavailableError):
                client.describe()


def test_nohup_keeps_the_daemon_from_the_end_of_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in _ending_signals()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.SIGHUP in _ending_signals()


SIGNALLED_ELSEWHERE = """
import signal, sys, threading, time
from pathlib import Path
from saccade.runtime.daemon import DaemonConfig, run

def signal_this_thread():
    time.sleep(0.3)  # by then the main thread waits
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

def on_ready(daemon):
    threading.Thread(target=signal_this_thread).start()

run(DaemonConfig(Path(sys.argv[1]), bind="127.0.0.1:0", threads=1), on_ready=on_ready)
"""


def test_a_signal_that_another_thread_receives_ends_the_daemon_too(tiny: Path) -> None:
    found = subprocess.run([sys.executable, "-c", SIGNALLED_ELSEWHERE, str(tiny)], timeout=60, check=False)
    assert found.returncode == 0


def test_the_same_port_can_be_used_again_at_once(tiny: Path) -> None:
    with (
        Daemon(DaemonConfig(tiny, bind="127.0.0.1:0", threads=1)) as daemon,
        Client(daemon.address) as client,
    ):
        client.describe()
    with Daemon(DaemonConfig(tiny, bind=daemon.address, threads=1)), Client(daemon.address) as client:
        assert client.describe().is_ready


def test_wild_messages_do_not_disturb_the_zeromq_server(daemon: Daemon) -> None:
    assert daemon.zmq_address is not None
    with zmq.Context() as context, context.socket(zmq.DEALER) as wild:
        wild.setsockopt(zmq.LINGER, 0)
        wild.connect(f"tcp://{daemon.zmq_address}")
        for parts in (
            [b""],
            [b"1"],
            [b"1", b"Act"],
            [b"x" * 17, b"Act", b""],
            [b"", b"Act", b""],
            [b"1"] * 9,
        ):
            wild.send_multipart(parts)
        wild.send_multipart([b"a", b"Act", b"\xff\xff"])
        wild.send_multipart([b"b", b"__class__", b""])
        answers = {}
        for _ in range(2):
            assert wild.poll(10_000)
            request_id, status, payload = wild.recv_multipart()
            answers[request_id] = (status, wire.Error.FromString(payload))
    assert [answers[key][0] for key in (b"a", b"b")] == [b"error", b"error"]
    assert "expected a serialised saccade.v1.Observation" in answers[b"a"][1].message
    assert "expected a method of" in answers[b"b"][1].message
    with Client(daemon.zmq_address, transport="zmq") as client:
        assert client.describe().is_ready


def stopped_for(client: Client, expected: str) -> None:
    """Wait until the stop latch is set, for a reason, and release it."""
    with client.open() as session:
        while not client.describe().is_stopped:
            time.sleep(0.01)
        with pytest.raises(errors.StoppedError, match=expected):
            session.reset("push the red cube")
        session.reset("push the red cube", release_stop=True)
    assert not client.describe().is_stopped


def test_a_signal_and_a_button_stop_the_robot_and_the_daemon_goes_on(tiny: Path) -> None:
    ours, button = os.pipe()
    os.set_inheritable(ours, True)
    process = subprocess.Popen(
        [sys.executable, "-m", "saccade.runtime.commands.main", "serve", str(tiny), "--json", "--threads", "1",
         "--bind", "127.0.0.1:0", "--stop-signal", "SIGUSR1", "--stop-fd", str(ours)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=[ours],
    )  # fmt: skip
    os.close(ours)
    assert process.stdout is not None
    with Client(json.loads(process.stdout.readline())["grpc"]) as client:
        for _ in range(2):
            process.send_signal(signal.SIGUSR1)
            stopped_for(client, r"found it set \(SIGUSR1\)")
        os.write(button, b"!")
        stopped_for(client, rf"found it set \(file descriptor {ours}\)")
        os.close(button)  # its driver is gone
        stopped_for(client, "stops no more: its other end closed")
        process.send_signal(signal.SIGUSR1)
        stopped_for(client, "SIGUSR1")
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in log


def test_a_stop_line_that_cannot_work_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    for options, message in (
        (["--stop-signal", "SIGKILL"], "free to stop"),
        (["--stop-fd", "999"], "open file"),
    ):
        found = serve(tmp_path / "no-bundle", *options)
        _, log = found.communicate(timeout=60)
        assert found.returncode == 1 and message in log and "[serve]" in log


def test_a_machine_that_slept_is_counted(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(daemon.address) as client, client.open() as session:
        session.reset("push the red cube")
        session.act(tiny_observation(1, sequence=1))
        read = time.clock_gettime_ns
        night = {time.CLOCK_BOOTTIME: 8 * 3600 * 10**9}
        monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: read(clock) + night.get(clock, 0))
        for sequence in (2, 3):
            session.act(tiny_observation(sequence, sequence=sequence))
        assert client.describe().counters["clock.suspended"] == 1
