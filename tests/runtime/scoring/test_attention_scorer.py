"""A scorer bundle looks once per task, through the real daemon and in process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saccade.proto import errors
from saccade.runtime.bundle import Bundle
from saccade.runtime.client import Client
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.scoring.attention_scorer import AttentionScorer
from saccade.runtime.session import Session
from tests.runtime.scoring.robots import INSTRUCTION, WORDS, expected, kept_by, serving
from tests.tiny_bundle import GRID, tiny_observation, tiny_step
from tests.tiny_scorer import tiny_scores, write_tiny_scorer


def test_the_scorer_looks_once_per_task_at_its_first_observation(client: Client) -> None:
    scores = tiny_scores(tiny_observation(0), WORDS)
    assert expected(scores) != expected((1, 1))
    with client.open() as session:
        for _ in range(2):
            session.reset(INSTRUCTION)
            kept, timings_ns = kept_by(session)
            assert kept == expected(scores)
            assert ["scorer.score" in each for each in timings_ns] == [True, False, False]


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
