"""Whole control steps against lerobot's: its checkpoint, our exporter, daemon and client, physical units."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from saccade.export.control.pipeline import ExportReport, ExportRequest, export_bundle
from saccade.proto.errors import ObservationError
from saccade.runtime.bundle import Bundle
from saccade.runtime.client import Client
from saccade.runtime.clock import monotonic_ns
from saccade.runtime.daemon import Daemon, DaemonConfig
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.session import Session
from tests.export.families.control_steps import ControlSteps, read_steps
from tests.export.inspection.agreement import check_agreement

TOLERANCE = 1e-4
"""Physical units; the actions are of the order of 1 to 5."""


def export(
    checkpoint: Path, out: Path, policy: str, keep_ratios: tuple[float, ...]
) -> tuple[ControlSteps, ExportReport]:
    request = ExportRequest(checkpoint=checkpoint, out=out, policy=policy, keep_ratios=keep_ratios)
    return read_steps(checkpoint), export_bundle(request, lambda what: None)


def assert_daemon_acts(bundle: Path, steps: ControlSteps) -> None:
    """Serve a bundle and drive it through every episode; the daemon draws the noise."""
    config = DaemonConfig(bundle, bind="127.0.0.1:0", threads=1, max_age_ns=0, noise_seed=steps.noise_seed)
    with Daemon(config) as daemon, Client(daemon.address) as client, client.open() as session:
        for episode, task in enumerate(steps.tasks):
            session.reset(task)
            for step in range(steps.images.shape[1]):
                seen = steps.observation(episode, step, captured_ns=monotonic_ns())
                chunk = session.act(seen)
                assert (chunk.profile, chunk.clamped) == ("full", 0)
                expected = steps.actions[episode, step]
                np.testing.assert_allclose(chunk.actions, expected, atol=TOLERANCE, rtol=0)
    spread = np.abs(np.diff(steps.actions.reshape(-1, *steps.actions.shape[2:]), axis=0))
    assert spread.max() > 0.5, "every control step has another answer"


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "segments"), [
    ("smolvla", {"visual": 8, "text": 24, "state": 1, "action": 6}),
    ("pi05", {"visual": 32, "text": 80, "action": 6}),
])  # fmt: skip
def test_the_daemon_acts_as_lerobot_does(
    lerobot_written: Callable[[str], Path], tmp_path: Path, policy: str, segments: dict[str, int]
) -> None:
    steps, report = export(lerobot_written(policy), tmp_path / "bundle", "keep_all", (1.0,))
    manifest = report.manifest
    assert manifest.family == policy and manifest.noise_dim == 8
    assert {segment.name: segment.tokens for segment in manifest.sequence} == segments
    assert [(view.name, view.height, view.width) for view in manifest.views] == [
        ("top", 48, 64),
        ("wrist", 48, 64),
    ]
    assert report.parity["full"].actions_max_error <= TOLERANCE
    assert report.accounting["full"]["stages"]["selection"]["macs"] == 0
    assert_daemon_acts(tmp_path / "bundle", steps)
    check_agreement(lerobot_written(policy), tmp_path / "bundle")


@pytest.mark.slow
def test_relative_actions_and_a_policy_that_reads_the_expert(
    lerobot_written: Callable[[str], Path], tmp_path: Path
) -> None:
    """π0 whose actions count from the state; VLA-Pruner's first steps see every token, the others half of them."""
    steps, report = export(lerobot_written("pi0_relative"), tmp_path / "bundle", "vla_pruner", (1.0, 0.5))
    assert report.manifest.action.relative == (True, True, False, True)
    assert report.parity["keep50"].distinct_kept_sets > 1
    check_agreement(lerobot_written("pi0_relative"), tmp_path / "bundle")
    assert_daemon_acts(tmp_path / "bundle", steps)
    with OrtBackend(threads=1) as backend:
        program = ProgramExecutor(Bundle.open(tmp_path / "bundle"), backend)
        session = Session(program, profile="keep50", noise_seed=99)
        session.reset(steps.tasks[0])
        chunks = []
        for index in range(5):
            seen = steps.observation(0, 0, gives_noise=True)
            chunks.append(session.act(type(seen)(**{**vars(seen), "sequence": index + 1})))
        assert [chunk.profile for chunk in chunks] == ["full"] * 3 + ["keep50"] * 2
        np.testing.assert_allclose(chunks[0].actions, steps.actions[0, 0], atol=TOLERANCE, rtol=0)
        assert np.abs(chunks[3].actions - chunks[0].actions).max() > 1e-2
        assert chunks[3].telemetry is not None and len(chunks[3].telemetry.kept) == 16
        wrong = {**vars(steps.observation(0, 0)), "sequence": 9, "noise": np.zeros((2, 2), np.float32)}
        with pytest.raises(
            ObservationError, match=r"noise: expected finite float32\[6, 8\], found float32\[2, 2\]"
        ):
            session.act(type(seen)(**wrong))


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["divprune", "fastv"])
def test_a_cut_at_the_entry_and_one_in_the_prefix(
    lerobot_written: Callable[[str], Path], tmp_path: Path, policy: str
) -> None:
    """SmolVLA: half of the visual tokens, in the graph; lint and parity are the exporter's."""
    checkpoint = shutil.copytree(lerobot_written("smolvla"), tmp_path / "smolvla")
    _, report = export(checkpoint, tmp_path / "bundle", policy, (1.0, 0.5))
    assert (report.parity["keep50"].keep, report.parity["full"].keep) == (4, 8)
    assert report.parity["keep50"].action_change > 1e-3
    assert report.accounting["keep50"]["ratio_to_full"] < 1
    assert set(report.lint) == {"full", "keep50"}
    check_agreement(checkpoint, tmp_path / "bundle")
