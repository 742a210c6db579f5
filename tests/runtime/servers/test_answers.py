"""Questions to a daemon that moves a robot meanwhile: real gRPC, real ONNX Runtime, two bundles, on loopback."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import zmq
from click.testing import CliRunner, Result
from PIL import Image
from tokenizers import Regex, decoders

from saccade.proto import errors
from saccade.proto.fitted_picture import fit_picture
from saccade.proto.v1 import control_pb2 as wire
from saccade.proto.v1 import control_pb2_grpc
from saccade.runtime.answering.answerer import Answerer
from saccade.runtime.answering.question import Answers, Question
from saccade.runtime.answering.sampling import Sampling
from saccade.runtime.bundle import Bundle
from saccade.runtime.client import Client, RemoteAnswerer
from saccade.runtime.clock import monotonic_ns
from saccade.runtime.commands.main import main
from saccade.runtime.daemon import Daemon, DaemonConfig
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.program import ProgramExecutor
from tests.runtime.test_daemon import serve
from tests.tiny_answerer import KEEPS, PICTURE_FIT, SIDE, tiny_answer, tiny_picture, write_tiny_answerer
from tests.tiny_bundle import GRID, tiny_observation, tiny_step

TEXT = "what is here"
PICTURE = tiny_picture()
IMAGES = {"image0": PICTURE}
QUESTION = Question(TEXT, IMAGES)
MANY = 1_000_000
"""More tokens than any test waits for: an answer that ends was ended."""


@pytest.fixture(scope="module")
def answerer_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_answerer(tmp_path_factory.mktemp("bundles") / "answerer", max_new_tokens=MANY)


def config(tiny: Path, answerer: Path) -> DaemonConfig:
    return DaemonConfig(
        tiny,
        bind="127.0.0.1:0",
        zmq_bind="127.0.0.1:0",
        threads=1,
        max_age_ns=0,
        max_frozen_frames=0,
        answerer=answerer,
    )


@pytest.fixture
def planner(tiny: Path, answerer_bundle: Path) -> Iterator[Daemon]:
    """A daemon that controls a robot and answers questions."""
    with Daemon(config(tiny, answerer_bundle)) as daemon:
        yield daemon


@pytest.fixture
def client(planner: Daemon) -> Iterator[Client]:
    with Client(planner.address) as client:
        yield client


@pytest.fixture
def remote(client: Client) -> RemoteAnswerer:
    return client.answerer()


def eventually(holds: Callable[[], bool]) -> None:
    while not holds():  # the test's own timeout ends a wait in vain
        time.sleep(0.005)


def broken_off(client: Client) -> int:
    return client.describe().counters.get("answers.broken_off", 0)


def test_the_answer_is_the_models(remote: RemoteAnswerer, client: Client) -> None:
    for profile, keep in KEEPS.items():
        pieces = list(remote.answer(dataclasses.replace(QUESTION, profile=profile, max_new_tokens=30)))
        expected = tiny_answer(PICTURE, TEXT, keep, 30)
        assert [piece.token for piece in pieces] == expected
        assert "".join(piece.text for piece in pieces) == " ".join(f"w{token - 6}" for token in expected)
        assert [piece.is_last for piece in pieces] == [False] * 29 + [True]
        assert set(pieces[0].timings_ns) == {"stage.prompt"}
        assert set(pieces[1].timings_ns) == {"stage.token", "token"}
    counters = client.describe().counters
    assert (counters["questions"], counters["answers"], counters["answer.tokens"]) == (2, 2, 60)
    assert counters["answer.token.p50_ns"] > 0 and counters["answer.prompt.p99_ns"] > 0


def test_pictures_are_fitted_by_either_side(remote: RemoteAnswerer) -> None:
    """A camera's own size is sent as it is, up to full HD; whoever fitted it sends less."""
    (view,), camera = (
        remote.manifest.views,
        np.random.default_rng(1).integers(0, 256, (1080, 1920, 3), np.uint8),
    )
    fitted = fit_picture(camera, view, PICTURE_FIT)
    expected = tiny_answer(fitted[0], TEXT, 4, 5)
    for picture in (camera, fitted):
        pieces = remote.answer(Question(TEXT, {"image0": picture}, max_new_tokens=5))
        assert [piece.token for piece in pieces] == expected


def test_sampling_travels_with_the_question(remote: RemoteAnswerer) -> None:
    def tokens(sampling: Sampling) -> list[int]:
        pieces = remote.answer(dataclasses.replace(QUESTION, max_new_tokens=12, sampling=sampling))
        return [piece.token for piece in pieces]

    hot = [tokens(Sampling(temperature=4.0, seed=seed)) for seed in (1, 1, 2, 2**64 - 1)]
    assert hot[0] == hot[1] and len({tuple(each) for each in hot}) == 3
    assert tokens(Sampling(temperature=4.0, seed=1, top_k=1)) == tokens(Sampling())
    assert tokens(Sampling(temperature=4.0, seed=1, top_p=1e-6)) == tokens(Sampling())
    with pytest.raises(errors.QuestionError, match=r"seed below 2\^64"):
        tokens(Sampling(seed=2**64))


def test_the_description_tells_of_the_answerer(client: Client, answerer_bundle: Path) -> None:
    assert client.describe().answerer == Bundle.open(answerer_bundle).manifest


def test_the_robot_moves_while_an_answer_is_generated(remote: RemoteAnswerer, planner: Daemon) -> None:
    """Both are exactly what they are alone."""
    pieces = remote.answer(dataclasses.replace(QUESTION, max_new_tokens=3000))
    said = [next(pieces).token]
    reader = threading.Thread(target=lambda: said.extend(piece.token for piece in pieces))
    with Client(planner.address) as robot, robot.open("keep50") as session:
        session.reset("push the red cube")
        carry = np.zeros(GRID.tokens, np.float32)
        reader.start()
        for step in range(60):
            observation = tiny_observation(step, sequence=step + 1, captured_ns=monotonic_ns())
            chunk = session.act(observation)
            actions, _, carry = tiny_step(observation, carry, 4 if step else 8, 4)
            np.testing.assert_allclose(chunk.actions, actions, atol=1e-6)
        reader.join()
    assert said == tiny_answer(PICTURE, TEXT, 4, 3000)


def test_generating_waits_for_no_control_step_and_no_step_for_it(
    remote: RemoteAnswerer, planner: Daemon
) -> None:
    with planner.endpoint._engine_lock:  # a control step that does not end
        assert len(list(remote.answer(dataclasses.replace(QUESTION, max_new_tokens=5)))) == 5
    endless = remote.answer(QUESTION)
    next(endless)
    with Client(planner.address) as robot, robot.open() as session:
        session.reset("push")
        assert session.act(tiny_observation(captured_ns=monotonic_ns())).sequence == 1
        robot.stop("hand in the cell")  # stops the arm, not the planner
        assert next(endless).text


def test_a_second_question_is_told_that_the_answerer_is_busy(remote: RemoteAnswerer, planner: Daemon) -> None:
    first = remote.answer(QUESTION)
    said = [next(first).token]
    with Client(planner.address) as other, pytest.raises(errors.AnswererBusyError, match="ask again"):
        list(other.answerer().answer(Question("what", IMAGES)))
    said += [next(first).token for _ in range(9)]
    assert said == tiny_answer(PICTURE, TEXT, 4, 10)


def test_who_leaves_ends_the_answer_and_may_ask_again_at_once(remote: RemoteAnswerer, client: Client) -> None:
    for _ in range(20):
        answer = remote.answer(QUESTION)
        next(answer)
        answer.close()  # type: ignore[attr-defined]
    assert len(list(remote.answer(dataclasses.replace(QUESTION, max_new_tokens=3)))) == 3
    eventually(lambda: broken_off(client) == 20)
    assert client.describe().counters["answers"] == 1


def test_a_deadline_ends_even_a_prompt(client: Client) -> None:
    impatient = client.answerer(deadline_s=0.3)
    with pytest.raises(errors.DeadlineError, match=r"within 0\.3 s"):
        list(impatient.answer(Question("forever", IMAGES)))
    with pytest.raises(errors.DeadlineError, match=r"within 0\.3 s"):
        list(impatient.answer(QUESTION))
    eventually(lambda: broken_off(client) == 2)
    assert len(list(client.answerer().answer(dataclasses.replace(QUESTION, max_new_tokens=3)))) == 3


ASKING_CLIENT = """
import sys
from saccade.runtime.answering.question import Answers, Question
from saccade.runtime.client import Client
from tests.tiny_answerer import tiny_picture
for piece in Client(sys.argv[1]).answerer().answer(Question("what is here", {"image0": tiny_picture()})):
    print("answered", flush=True)
"""


def test_a_client_that_vanishes_ends_its_answer(planner: Daemon, client: Client) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", ASKING_CLIENT, planner.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"answered\n"
        os.kill(process.pid, signal.SIGKILL)
        process.stdout.close()
    eventually(lambda: broken_off(client) == 1)
    assert len(list(client.answerer().answer(dataclasses.replace(QUESTION, max_new_tokens=3)))) == 3


def test_what_cannot_be_answered_is_refused_as_in_process(
    remote: RemoteAnswerer, planner: Daemon, client: Client
) -> None:
    def ask(**changes: Any) -> None:
        list(remote.answer(dataclasses.replace(QUESTION, **changes)))

    with pytest.raises(errors.InstructionError, match="or a question, found nothing"):
        ask(text=" ")
    with pytest.raises(errors.InstructionError, match="1 to 4 tokens, its template included, found 5"):
        ask(text="what is here what is")
    with pytest.raises(errors.ImageError, match="expected the pictures image0, found none"):
        ask(images={})
    with pytest.raises(errors.ImageError, match=r"\(height, width, 3\), found uint8 \[6, 6, 4\]"):
        ask(images={"image0": np.zeros((SIDE, SIDE, 4), np.uint8)})
    with pytest.raises(errors.ImageError, match=r"uint8 \[1, 6, 6, 3\] .* found uint8 \[2, 6, 6, 3\]"):
        ask(images={"image0": np.zeros((2, SIDE, SIDE, 3), np.uint8)})
    with pytest.raises(errors.ImageError, match=r"found float32"):
        ask(images={"image0": PICTURE.astype(np.float32)})
    with pytest.raises(errors.ImageError, match=r"view .*: expected uint8 pixels"):
        ask(images={"image0": np.full((SIDE, SIDE, 3), None, object)})
    with pytest.raises(errors.MessageError, match="expected a message that the daemon accepts"):
        ask(images={"image0": np.zeros((2160, 3840, 3), np.uint8)})
    with pytest.raises(errors.UnknownProfileError, match=r"\(full, keep50\), found 'keep7'"):
        ask(profile="keep7")
    with pytest.raises(errors.QuestionError, match=r"1 to 1000000 new tokens, .* found 1000001"):
        ask(max_new_tokens=MANY + 1)
    with pytest.raises(errors.QuestionError, match="found 0"):
        ask(max_new_tokens=0)
    for field, value in (("temperature", -1.0), ("temperature", float("nan")), ("top_p", 0.0)):
        request = wire.Question(text=TEXT, sampling=wire.Sampling(**{field: value}))
        with grpc.insecure_channel(planner.address) as channel:
            stub = control_pb2_grpc.ControlStub(channel)  # type: ignore[no-untyped-call]
            with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT") as refused:
                list(stub.Generate(request, timeout=10))
        assert "expected a temperature" in str(refused.value)
    ask(max_new_tokens=2)
    counters = client.describe().counters
    assert counters["errors.instruction"] == 2 and counters["answers"] == 1


def test_an_engine_that_fails_amid_an_answer_is_an_error_of_that_answer(tiny: Path, tmp_path: Path) -> None:
    bundle = write_tiny_answerer(tmp_path / "poisoned", poison_position=4 + 3 + 5)
    with Daemon(config(tiny, bundle)) as daemon, Client(daemon.address) as client:
        for _ in range(2):
            answer = client.answerer().answer(QUESTION)
            assert [next(answer).token for _ in range(6)] == tiny_answer(PICTURE, TEXT, 4, 6)
            with pytest.raises(errors.EngineError, match="expected finite logits"):
                next(answer)


def test_a_tokenizer_that_panics_is_an_error_of_that_answer(tiny: Path, tmp_path: Path) -> None:
    decoder = decoders.Sequence([decoders.Replace(Regex(".+"), "w"), decoders.Strip("w", 1, 1)])
    bundle = write_tiny_answerer(tmp_path / "panicking", decoder=decoder)
    question = dataclasses.replace(QUESTION, max_new_tokens=3)
    with Daemon(config(tiny, bundle)) as daemon, Client(daemon.address) as client:
        for _ in range(2):
            with pytest.raises(errors.EngineError, match="expected tokens that the tokenizer can decode"):
                list(client.answerer().answer(question))
        assert client.describe().counters["errors.engine"] == 2


def test_an_answer_that_ends_without_its_last_piece_is_an_error(
    remote: RemoteAnswerer, planner: Daemon
) -> None:
    answer = remote.answer(QUESTION)
    next(answer)
    assert planner.endpoint._answers is not None
    running = planner.endpoint._answers._thread._running
    assert running is not None
    running.stop()  # as if nobody wanted the rest
    with pytest.raises(errors.TransportError, match=r"its end after [0-9]+ tokens: what came is incomplete"):
        list(answer)


def test_what_is_no_unicode_text_is_refused_by_either_side(
    remote: RemoteAnswerer, planner: Daemon, answerer_bundle: Path
) -> None:
    with OrtBackend(threads=1) as backend:
        here = Answerer(ProgramExecutor(Bundle.open(answerer_bundle), backend))
        answers: Answers
        for answers in (here, remote):
            for text in ("what \udcff", "what \0"):
                with pytest.raises(errors.InstructionError, match="question in Unicode text, found"):
                    list(answers.answer(dataclasses.replace(QUESTION, text=text)))
    for changes in ({"profile": "\udcff"}, {"images": {"\udcff": PICTURE}}):
        with pytest.raises(errors.InputError, match=r"names of pictures and profile in Unicode"):
            list(remote.answer(dataclasses.replace(QUESTION, **changes)))
    with grpc.insecure_channel(planner.address) as channel:
        stub = control_pb2_grpc.ControlStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT") as refused:
            list(stub.Generate(wire.Question(text="what \0"), timeout=10))
    assert "in Unicode text, found a NUL" in str(refused.value)
    found = saccade("ask", answerer_bundle, "what \udcff")
    assert found.exit_code == 1 and "Traceback" not in found.output


def test_a_daemon_without_an_answerer_says_so(daemon: Daemon) -> None:
    with Client(daemon.address) as client:
        assert client.describe().answerer is None
        with pytest.raises(errors.QuestionError, match="--answerer BUNDLE"):
            client.answerer()
        manifest = client.describe().manifest
        with pytest.raises(errors.QuestionError, match="--answerer BUNDLE"):
            list(RemoteAnswerer(client._transport, manifest, 10).answer(QUESTION))


def test_zeromq_refuses_to_generate(planner: Daemon) -> None:
    assert planner.zmq_address is not None
    with Client(planner.zmq_address, transport="zmq") as client:
        assert client.describe().answerer is not None
        with pytest.raises(errors.TransportError, match="ask over gRPC"):
            list(client.answerer().answer(QUESTION))
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"tcp://{planner.zmq_address}")
        dealer.send_multipart([b"1", b"Generate", wire.Question(text=TEXT).SerializeToString()])
        assert dealer.poll(10_000)
        _, status, payload = dealer.recv_multipart()
    assert status == b"error" and "ask over gRPC" in wire.Error.FromString(payload).message


def test_a_bundle_that_does_not_answer_is_no_answerer(tiny: Path, answerer_bundle: Path) -> None:
    with pytest.raises(errors.BundleError, match="expected a bundle that answers questions, found 'tiny'"):
        Daemon(config(tiny, tiny)).__enter__()
    with pytest.raises(errors.BundleError, match="serve it beside one, as --answerer"):
        Daemon(config(answerer_bundle, answerer_bundle)).__enter__()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("saccade")] == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_the_answerer_gives_way_and_so_do_the_threads_of_its_engine(
    tiny: Path, answerer_bundle: Path
) -> None:
    def yielding() -> set[str]:
        lower = min(os.getpriority(os.PRIO_PROCESS, 0) + 10, 19)
        tasks = os.listdir("/proc/self/task")
        return {task for task in tasks if os.getpriority(os.PRIO_PROCESS, int(task)) == lower}

    before, three = yielding(), dataclasses.replace(config(tiny, answerer_bundle), answerer_threads=3)
    with Daemon(three):
        (thread,) = (each for each in threading.enumerate() if each.name == "saccade-answers")
        new = yielding() - before
        assert str(thread.native_id) in new
        assert len(new) == 1 + 2 * (
            len(KEEPS) + 1
        )  # two more threads for each graph; further tokens share one


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_daemon_that_ends_amid_an_answer(tiny: Path, answerer_bundle: Path, number: signal.Signals) -> None:
    """Killed it breaks the answer off; asked to end it says so, and does not wait for the answer."""
    with serve(tiny, "--answerer", str(answerer_bundle)) as process:
        assert process.stdout is not None
        with Client(json.loads(process.stdout.readline())["grpc"]) as client:
            answer = client.answerer().answer(QUESTION)
            next(answer)
            process.send_signal(number)
            expected, message = (
                (errors.UnavailableError, "found the daemon gone after [0-9]+ tokens")
                if number is signal.SIGKILL
                else (errors.DrainingError, "found it shutting down")
            )
            with pytest.raises(expected, match=message):
                list(answer)
            assert process.wait(timeout=60) == (-number if number is signal.SIGKILL else 0)


def saccade(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_asks_a_daemon_what_it_would_ask_a_bundle(
    planner: Daemon, answerer_bundle: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "table.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (33, 47, 3), np.uint8)).save(picture)
    asked = [TEXT, "--image", picture, "--profile", "keep50", "--max-new-tokens", "8"]
    asked += ["--temperature", "2.5", "--seed", "3"]
    alone = saccade("ask", answerer_bundle, *asked)
    assert alone.exit_code == 0, alone.output
    daemon = saccade("ask", "--daemon", planner.address, *asked)
    assert daemon.exit_code == 0, daemon.output
    assert daemon.output == alone.output and len(alone.output.split()) == 8
    found = json.loads(saccade("ask", "--daemon", planner.address, *asked, "--json").output)
    assert found["answer"] == alone.output.strip() and len(found["tokens"]) == 8
    assert found["total_ms"] >= found["prompt_ms"] > 0


def test_the_command_says_what_is_wrong(planner: Daemon, answerer_bundle: Path, tmp_path: Path) -> None:
    picture = tmp_path / "table.png"
    Image.fromarray(PICTURE).save(picture)
    at_daemon = ("ask", "--daemon", planner.address, "--image", picture)
    for arguments, code, message in (
        ((*at_daemon, " "), 1, "or a question, found nothing. [instruction]"),
        ((*at_daemon, "forever", "--deadline-s", "0.2"), 1, "[transport.deadline]"),
        ((*at_daemon, TEXT, "--image", picture), 1, "expected 1 pictures"),
        (("ask", "--daemon", "127.0.0.1:9", TEXT, "--image", picture), 1, "[transport.unavailable]"),
        ((*at_daemon, answerer_bundle, TEXT), 2, "expected QUESTION with --daemon, found 2 arguments"),
        ((*at_daemon, TEXT, "--threads", "1"), 2, "expected no --threads with --daemon"),
        (
            ("ask", answerer_bundle, TEXT, "--deadline-s", "1"),
            2,
            "expected no --deadline-s without --daemon",
        ),
        (("ask", TEXT), 2, "expected BUNDLE and QUESTION, found 1 arguments"),
    ):
        found = saccade(*arguments)
        assert (found.exit_code, message in found.output) == (code, True), found.output
        assert "Traceback" not in found.output
