"""The parity check finds a graph that computes something else, and a policy that does nothing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from saccade.export.control import parity
from saccade.export.control.frames import host_inputs, synthetic_recording
from saccade.export.control.parity import ParityReceipt, ParityTolerance, check_kept, check_parity
from saccade.export.control.pipeline import ExportReport, ExportRequest, export_bundle
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.lowering.shared_weights import WEIGHTS_NAME
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.policies.registry import build_policy
from saccade.proto.errors import ReceiptError
from tests.export.samples import CONFIG, tiny_model, write_tiny_checkpoint


@pytest.fixture(scope="module")
def graph(exported: tuple[Path, ExportReport]) -> Path:
    return exported[0] / "graphs" / "step.full.onnx"


DEFAULT = ParityTolerance()


def _check(
    graph: Path,
    checkpoint: Checkpoint,
    policy: str,
    frames: list[tuple[Tensor, ...]],
    tolerance: ParityTolerance = DEFAULT,
) -> ParityReceipt:
    built = build_policy(policy, {}, model_shape(tiny_model()))
    full = SinglePassStep(checkpoint.model, built, CONFIG.grid.tokens)
    return check_parity(
        graph,
        full,
        full,
        frames,
        profile="full",
        source="synthetic",
        physical_per_unit=checkpoint.statistics.action.physical_per_unit,
        tolerance=tolerance,
    )


def test_the_receipts_tell_what_was_compared(exported: tuple[Path, ExportReport]) -> None:
    report = exported[1]
    for name, receipt in report.parity.items():
        assert receipt.frames == 8 + (report.manifest.policy.warmup_steps if name == "full" else 0)
        assert receipt.actions_max_error < 1e-4
        assert receipt.kept_overlap_min == 1.0
        physical = receipt.actions_max_error_physical
        assert max(physical[:2]) <= 0.021 * receipt.actions_max_error
        assert (receipt.action_change > 1e-3) == (name != "full")


def test_a_changed_weight_is_found(
    exported: tuple[Path, ExportReport], checkpoint: Checkpoint, tmp_path: Path
) -> None:
    bundle, report = exported
    graphs = Path(shutil.copytree(bundle / "graphs", tmp_path / "graphs"))
    weights = np.fromfile(graphs / WEIGHTS_NAME, np.float32)
    (weights + 0.01).tofile(graphs / WEIGHTS_NAME)
    frames = list(host_inputs(synthetic_recording(checkpoint, 2), checkpoint))
    with pytest.raises(
        ReceiptError, match="'full': ONNX Runtime and PyTorch disagree: expected error of a norm"
    ):
        _check(graphs / "step.full.onnx", checkpoint, report.manifest.policy.name, frames)


def test_no_frames_is_a_failure(graph: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(ReceiptError, match="the parity check could not run"):
        _check(graph, checkpoint, "keep_all", [])


def test_a_policy_that_changes_nothing_fails_the_export(tmp_path: Path) -> None:
    """A model that never looks: without values to mix, dropping tokens cannot change an action."""
    model = tiny_model()
    with torch.no_grad():
        for layer in model.decoder.layers:
            layer.self_attn.o_proj.weight.zero_()
    path = write_tiny_checkpoint(tmp_path / "blind", model)
    request = ExportRequest(
        checkpoint=path, out=tmp_path / "out" / "bundle", policy="random_keep", keep_ratios=(1.0, 0.5)
    )
    with pytest.raises(ReceiptError, match="'keep50': the policy changed nothing"):
        export_bundle(request, lambda what: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ([0, 1, 2], "expected 4 kept tokens, found 3"),
        ([0, 2, 1, 3], "expected ascending, unique"),
        ([0, 1, 1, 3], "expected ascending, unique"),
        ([0, 1, 2, 8], r"indices in 0\.\.7"),
        ([-1, 1, 2, 3], r"indices in 0\.\.7"),
    ],
)
def test_a_wrong_kept_set_is_named(kept: list[int], message: str) -> None:
    with pytest.raises(ReceiptError, match=message):
        check_kept(np.array(kept), 4, 8, "profile 'keep50'")


def test_the_tolerance_is_obeyed(exported: tuple[Path, ExportReport], checkpoint: Checkpoint) -> None:
    frames = list(host_inputs(synthetic_recording(checkpoint, 2), checkpoint))
    graph, policy = exported[0] / "graphs" / "step.full.onnx", exported[1].manifest.policy.name
    with pytest.raises(ReceiptError, match=r"expected error of a normalised action <= 0\.0"):
        _check(graph, checkpoint, policy, frames, ParityTolerance(actions=0.0))


@pytest.mark.parametrize(
    ("action", "carry_error", "message"),
    [
        (np.nan, 0.0, "error of a normalised action where kept sets differ <= 0.1, found nan"),
        (0.2, 0.0, "error of a normalised action where kept sets differ <= 0.1, found 0.2"),
        (0.0, np.nan, "expected a finite carry on every frame"),
    ],
)
def test_frames_with_other_kept_sets_are_judged_too(
    action: float,
    carry_error: float,
    message: str,
    graph: Path,
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zeros, ones = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    kept, other = np.arange(4), np.array([0, 1, 2, 4])
    same = parity._Frame(zeros, zeros, ones, kept, kept, 0.0, 1.0)
    differs = parity._Frame(zeros, zeros + np.float32(action), ones, kept, other, carry_error, 1.0)
    monkeypatch.setattr(parity, "_run", lambda *_: [same, differs])
    policy = build_policy("random_keep", {}, model_shape(tiny_model()))
    with pytest.raises(ReceiptError, match=re.escape(message)):
        check_parity(
            graph,
            SinglePassStep(checkpoint.model, policy, 4),
            SinglePassStep(checkpoint.model, policy, CONFIG.grid.tokens),
            list(host_inputs(synthetic_recording(checkpoint, 2), checkpoint)),
            profile="keep50",
            source="synthetic",
            physical_per_unit=checkpoint.statistics.action.physical_per_unit,
            tolerance=ParityTolerance(overlap=0.5),
        )
