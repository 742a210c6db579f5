"""A scorer exported from a checkpoint, and the daemon's own executor running it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from saccade.export.control.calibration import measure
from saccade.export.control.frames import host_inputs, synthetic_recording
from saccade.export.cost.cut_plan import CutPlan
from saccade.export.cost.parts import model_parts
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.steps.scoring_step import ScoringStep
from saccade.proto.bundle_kind import BundleKind
from saccade.proto.roofline import ACTION_HEAD
from saccade.proto.tensor_names import SCORED_VIEWS
from saccade.runtime.bundle import Bundle
from saccade.runtime.commands.main import main
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.inspection.bundle import inspect_bundle
from saccade.runtime.program import ProgramExecutor
from tests.export.samples import CONFIG


def test_a_score_is_the_instructions_attention_to_a_view(checkpoint: Checkpoint) -> None:
    """Over all views it is the share of attention that the calibration measures, an independent path."""
    step = ScoringStep(checkpoint.model, CONFIG.proprio_dim)
    for images, _, ids, mask, positions in host_inputs(synthetic_recording(checkpoint, 3), checkpoint):
        with torch.inference_mode():
            scores = step(images, ids, mask, positions)
        middle = torch.zeros(1, CONFIG.proprio_dim)
        measured = measure(checkpoint.model, [(images, middle, ids, mask, positions)])
        assert scores.shape == (1, CONFIG.views) and (scores > 0).all()
        np.testing.assert_allclose(scores.sum().item(), np.mean(measured.text_to_visual), rtol=1e-4)


def test_the_runtime_runs_the_exported_scorer(
    checkpoint_path: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    out = tmp_path / "scorer"
    ran = CliRunner().invoke(main, ["export-scorer", str(checkpoint_path), "--out", str(out), "--json"])
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.output)["max_error"] <= 1e-4
    bundle = Bundle.open(out)
    assert bundle.manifest.kind is BundleKind.SCORER
    (frame,) = host_inputs(synthetic_recording(checkpoint, 1), checkpoint)
    images, _, ids, mask, positions = frame
    with OrtBackend(threads=1) as backend:
        program = ProgramExecutor(bundle, backend)
        for name, tensor in zip(
            ("images", "token_ids", "attention_mask", "position_ids"),
            (images, ids, mask, positions),
            strict=True,
        ):
            program.inputs[name][...] = tensor.numpy()
        found = program.step("full", {})[SCORED_VIEWS]
    (looked,) = inspect_bundle(bundle).budgets
    whole = model_parts(checkpoint.model, CutPlan(is_last_layer_whole=True))
    assert looked.parts[:-1] == tuple(part for part in whole if part.name != ACTION_HEAD)
    expected = ScoringStep(checkpoint.model, CONFIG.proprio_dim)(images, ids, mask, positions)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    again = CliRunner().invoke(main, ["export-scorer", str(checkpoint_path), "--out", str(out)])
    assert again.exit_code == 1 and again.output.endswith("[export]\n")


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    ran = CliRunner().invoke(
        main, ["export-scorer", str(tmp_path / "none"), "--out", str(tmp_path / "scorer")]
    )
    assert ran.exit_code == 1 and "expected" in ran.output and ran.output.endswith("[checkpoint]\n")
    assert not (tmp_path / "scorer").exists()


@pytest.fixture(autouse=True)
def _quiet() -> None:
    torch.manual_seed(0)
