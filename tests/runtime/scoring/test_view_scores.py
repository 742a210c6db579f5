"""Scores of the views, from the client and from a scorer: on the real engine, and through the real daemon."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from saccade.proto import errors
from saccade.proto.manifest import Manifest
from saccade.runtime.bundle import Bundle
from saccade.runtime.client import Client
from saccade.runtime.commands.main import main
from saccade.runtime.daemon import Daemon, DaemonConfig
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.scoring.attention_scorer import AttentionScorer
from saccade.runtime.scoring.view_scores import ordered_view_scores
from saccade.runtime.session import Session
from tests.tiny_bundle import GRID, VIEWS, TinyOptions, tiny_observation, tiny_step, write_tiny_bundle
from tests.tiny_scorer import tiny_scores, write_tiny_scorer

INSTRUCTION = "red cube"
WORDS = 2


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    """A bundle whose policy reads view scores; no warm-up, so that they decide from the first step."""
    return write_tiny_bundle(tmp_path / "robot", options=TinyOptions(reads_scores=True), warmup_steps=0)


@pytest.fixture
def scorer(tmp_path: Path) -> Path:
    return write_tiny_scorer(tmp_path / "scorer")


@contextmanager
def serving(robot: Path, scorer: Path | None, **more: Any) -> Iterator[Daemon]:
    config = DaemonConfig(
        robot,
        bind="127.0.0.1:0",
        zmq_bind="127.0.0.1:0",
        threads=1,
        max_age_ns=0,
        max_frozen_frames=0,
        view_scorer=scorer,
        **more,
    )
    with Daemon(config) as daemon:
        yield daemon


@pytest.fixture(params=["grpc", "zmq"])
def client(robot: Path, scorer: Path, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of a daemon with a scorer, over each transport."""
    with serving(robot, scorer) as daemon:
        address = daemon.address if request.param == "grpc" else daemon.zmq_address
        with Client(str(address), transport=request.param) as client:
            yield client


def kept_by(session: Any, count: int = 3) -> tuple[list[list[int]], list[dict[str, int]]]:
    kept, timings_ns = [], []
    for seed in range(count):
        chunk = session.act(tiny_observation(seed, sequence=seed + 1, wants_telemetry=True), "keep50")
        kept.append(chunk.telemetry.kept.tolist())
        timings_ns.append(chunk.timings_ns)
    return kept, timings_ns


def expected(scores: Any, count: int = 3) -> list[list[int]]:
    carry, kept = np.zeros(GRID.tokens, np.float32), []
    for seed in range(count):
        _, indices, carry = tiny_step(tiny_observation(seed), carry, 4, WORDS, tuple(scores))
        kept.append(indices.tolist())
    return kept


def test_the_client_says_which_view_matters(client: Client) -> None:
    assert expected((0, 1)) != expected((1, 0)) != expected((1, 1))
    with client.open() as session:
        for scores in ((0, 1), (1, 0), (0.25, 4)):
            session.reset(INSTRUCTION, view_scores=dict(zip(VIEWS, scores, strict=True)))
            kept, timings_ns = kept_by(session)
            assert kept == expected(scores)
            assert all("scorer.score" not in each for each in timings_ns), (
                "the client's win, nobody else is asked"
            )


def test_the_scorer_looks_once_per_task_at_its_first_observation(client: Client) -> None:
    scores = tiny_scores(tiny_observation(0), WORDS)
    assert expected(scores) != expected((1, 1))
    with client.open() as session:
        for _ in range(2):
            session.reset(INSTRUCTION)
            kept, timings_ns = kept_by(session)
            assert kept == expected(scores)
            assert ["scorer.score" in each for each in timings_ns] == [True, False, False]


def test_without_scores_every_view_matters_as_much(robot: Path) -> None:
    with serving(robot, None) as daemon, Client(daemon.address) as client, client.open() as session:
        session.reset(INSTRUCTION, view_scores=dict(zip(VIEWS, (0, 1), strict=True)))
        session.act(tiny_observation())
        session.reset(INSTRUCTION)
        assert kept_by(session)[0] == expected((1, 1)), "a new task forgets the scores of the last"


UNUSABLE = {
    "a view missing": ({"scene": 1.0}, r"each view of \['scene', 'wrist'\] or for none, .*: name all of them"),
    "a view unknown": ({"scene": 1.0, "wrist": 1.0, "top": 1.0}, "name all of them, or leave the scores out"),
    "another name": ({"scene": 1.0, "gripper": 1.0}, "name all of them"),
    "negative": ({"scene": 1.0, "wrist": -0.5}, r"finite view scores of 0 or more, found .*: send 0 for a view"),
    "NaN": ({"scene": math.nan, "wrist": 1.0}, "finite view scores of 0 or more"),
    "infinite": ({"scene": math.inf, "wrist": 1.0}, "finite view scores of 0 or more"),
    "beyond float32": ({"scene": 1e300, "wrist": 1.0}, "finite view scores of 0 or more"),
}  # fmt: skip


def test_unusable_scores_are_refused_and_the_episode_goes_on(client: Client) -> None:
    with client.open() as session:
        session.reset(INSTRUCTION, view_scores={"scene": 0, "wrist": 1})
        for scores, message in UNUSABLE.values():
            with pytest.raises(errors.ViewScoresError, match=message):
                session.reset("push", view_scores=scores)
        assert kept_by(session)[0] == expected((0, 1))


def test_scores_for_a_policy_that_reads_none_are_refused(tiny: Path) -> None:
    with serving(tiny, None) as daemon, Client(daemon.address) as client, client.open() as session:
        with pytest.raises(
            errors.ViewScoresError, match=r"the policy 'most_light' of 'tiny' reads none, .*: leave them out"
        ):
            session.reset(INSTRUCTION, view_scores={"scene": 1, "wrist": 1})
        session.reset(INSTRUCTION, view_scores={})


def test_an_instruction_that_the_scorer_cannot_read_is_refused_at_reset(client: Client) -> None:
    long = "push the red cube"  # and three words of the scorer's template
    with client.open() as session:
        with pytest.raises(errors.InstructionError, match="1 to 6 tokens, its template included, found 7"):
            session.reset(long)
        session.reset(long, view_scores={"scene": 0, "wrist": 1})
        assert session.act(tiny_observation()).sequence == 1


def test_scores_that_make_no_sense_stop_the_arm_at_every_step(robot: Path, tmp_path: Path) -> None:
    wrong = write_tiny_scorer(tmp_path / "wrong", bias=-100)
    with serving(robot, wrong) as daemon, Client(daemon.address) as client, client.open() as session:
        session.reset(INSTRUCTION)
        for sequence in (1, 2):
            with pytest.raises(
                errors.EngineError, match=r"0 or more from 'tiny scorer', found \[-9.*: hold the arm"
            ):
                session.act(tiny_observation(sequence=sequence))
        session.reset(INSTRUCTION, view_scores={"scene": 0, "wrist": 1})
        assert kept_by(session)[0] == expected((0, 1))


def test_a_scorer_that_makes_the_first_chunk_late_costs_that_one_alone(robot: Path, scorer: Path) -> None:
    readings = iter([0, 500, 0, 10, 0, 10])  # at the start and at the end of each step
    with OrtBackend(threads=1) as backend:
        bundle = Bundle.open(robot)
        views = AttentionScorer(Bundle.open(scorer), backend, bundle.manifest)
        session = Session(
            ProgramExecutor(bundle, backend),
            profile="keep50",
            max_age_ns=100,
            clock=lambda: next(readings),
            scorer=views,
        )
        session.reset(INSTRUCTION)
        with pytest.raises(errors.LateChunkError):
            session.act(tiny_observation(0))
        chunk = session.act(tiny_observation(1, sequence=2, wants_telemetry=True))
        assert "scorer.score" not in chunk.timings_ns
        scores = tuple(tiny_scores(tiny_observation(0), WORDS))
        _, kept, _ = tiny_step(tiny_observation(1), np.zeros(GRID.tokens, np.float32), 4, WORDS, scores)
        assert chunk.telemetry is not None and chunk.telemetry.kept.tolist() == kept.tolist()


def test_a_scorer_must_fit(robot: Path, scorer: Path, tiny: Path, tmp_path: Path) -> None:
    large = write_tiny_scorer(tmp_path / "large", side=16)
    for bundle, second, message in (
        (
            robot,
            robot,
            r"expected a bundle that answers questions, or one of kind 'scorer', .*found 'tiny', which controls",
        ),
        (
            tiny,
            scorer,
            r"expected a policy that reads view scores, found 'most_light' in 'tiny': serve it without",
        ),
        (
            robot,
            large,
            r"for the views scene 8x8, wrist 8x8, found one for scene 16x16, wrist 16x16: export it",
        ),
        (
            scorer,
            None,
            r"expected a bundle that controls a robot, found the scorer 'tiny scorer': .*--view-scorer",
        ),
        (scorer, scorer, r"expected a bundle that controls a robot"),
    ):
        with pytest.raises(errors.BundleError, match=message), serving(bundle, second):
            pass


def test_one_byte_of_the_scorer_is_enough(robot: Path, scorer: Path) -> None:
    graph = scorer / "graphs" / "score.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    with pytest.raises(errors.BundleIntegrityError, match=r"graphs/score\.onnx"), serving(robot, scorer):
        pass


def test_the_command_line_takes_a_scorer(robot: Path, scorer: Path, tiny: Path) -> None:
    found = CliRunner().invoke(
        main, ["serve", str(tiny), "--bind", "127.0.0.1:0", "--view-scorer", str(scorer)]
    )
    assert found.exit_code == 1
    assert "expected a policy that reads view scores" in found.output
    shown = CliRunner().invoke(main, ["inspect", str(scorer)])
    assert shown.exit_code == 0 and "these views, once per task" in shown.output
    assert "task.view_scores" in CliRunner().invoke(main, ["inspect", str(robot)]).output
    raw = CliRunner().invoke(main, ["inspect", str(scorer), "--json"])
    assert json.loads(raw.output)["manifest"]["kind"] == "scorer"


def test_doctor_runs_a_scorer_too(scorer: Path) -> None:
    found = CliRunner().invoke(main, ["doctor", str(scorer), "--bind", "127.0.0.1:0"])
    assert found.exit_code == 0 and "every profile runs: full" in found.output


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    options = TinyOptions(reads_scores=True)
    return Bundle.open(
        write_tiny_bundle(tmp_path_factory.mktemp("scores") / "tiny", options=options)
    ).manifest


names = st.sampled_from(["scene", "wrist", "top", ""])


@given(st.dictionaries(names, st.floats(), max_size=3))
def test_wild_scores_are_put_in_order_or_refused(manifest: Manifest, scores: dict[str, float]) -> None:
    try:
        found = ordered_view_scores(scores, manifest)
    except errors.ViewScoresError:
        return
    assert found.dtype == np.float32 and np.isfinite(found).all() and (found >= 0).all()
    assert found.tolist() == [np.float32(scores[view.name]) for view in manifest.views]
