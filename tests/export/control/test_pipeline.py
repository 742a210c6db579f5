"""From checkpoint to a bundle that the runtime opens and runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.export.bundle.profile_plan import plan_profiles
from saccade.export.bundle.progress import Stopwatch
from saccade.export.bundle.receipts import plain
from saccade.export.control.frames import Recording, host_inputs, synthetic_recording
from saccade.export.control.pipeline import (
    ControlRecipe,
    ExportReport,
    ExportRequest,
    export_bundle,
)
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.selecting_module import initial_state
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.policies.base import TokenPolicy
from saccade.policies.blocks.sinks import sink_threshold
from saccade.policies.registry import build_policy
from saccade.proto.errors import CheckpointError, ExportError, PolicyError
from saccade.proto.tensor_names import ENCODED_AGES
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.observation import Observation
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.session import Session
from tests.export.samples import CONFIG, tiny_model

Exported = tuple[Path, ExportReport]


def _policy(name: str) -> TokenPolicy:
    return build_policy(name, {}, model_shape(tiny_model()))


def _observation(recording: Recording, index: int) -> Observation:
    """A recorded frame as the robot sends it, telemetry wanted."""
    return Observation(
        images=dict(zip(("scene", "wrist"), recording.images[index], strict=True)),
        proprio=recording.proprio[index],
        captured_ns=0,
        sequence=index + 1,
        wants_telemetry=True,
    )


def test_the_runtime_does_what_the_modules_do(exported: Exported, checkpoint: Checkpoint) -> None:
    """Six control steps through a session, at the smallest profile, against PyTorch with its own carry."""
    bundle = Bundle.open(exported[0])
    manifest, policy = bundle.manifest, _policy(bundle.manifest.policy.name)
    smallest = min(manifest.profiles, key=lambda profile: profile.keep)
    full = SinglePassStep(checkpoint.model, policy, CONFIG.grid.tokens)
    pruned = SinglePassStep(checkpoint.model, policy, smallest.keep)
    recording, carry = synthetic_recording(checkpoint, 6), initial_state(full)
    recording = replace(recording, instruction=recording.instruction[2:3] * 6)
    scale = checkpoint.statistics.action
    session = Session(ProgramExecutor(bundle, OrtBackend(threads=1)), profile=smallest.name)
    with session:
        session.reset(recording.instruction[0])
        for index, inputs in enumerate(host_inputs(recording, checkpoint)):
            step = full if index < policy.warmup_steps else pruned
            with torch.inference_mode():
                actions, kept, *following = step(*inputs, *carry)
            carry = tuple(following)
            chunk = session.act(_observation(recording, index))
            assert chunk.telemetry is not None
            np.testing.assert_array_equal(chunk.telemetry.kept, kept[0].numpy())
            physical = np.where(
                scale.mask,
                0.5 * (actions[0].numpy() + 1) * (scale.high - scale.low + 1e-8) + scale.low,
                actions[0].numpy(),
            )
            np.testing.assert_allclose(chunk.actions, physical, atol=1e-4)


@pytest.mark.parametrize("name", ["visionzip", "quota", "vla_cache", "foveate", "vflowopt"])
def test_merging_task_tensors_and_memory_run_in_the_runtime(
    name: str, checkpoint_path: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """Full and pruned control steps in a session, telemetry included, against PyTorch with its own carry."""
    request = ExportRequest(
        checkpoint=checkpoint_path, out=tmp_path / "bundle", policy=name, keep_ratios=(1.0, 0.5)
    )
    export_bundle(request, lambda what: None)
    bundle, policy = Bundle.open(request.out), _policy(name)
    full, pruned = (SinglePassStep(checkpoint.model, policy, budget) for budget in (8, 4))
    recording, state = synthetic_recording(checkpoint, 5), initial_state(full)
    recording = replace(recording, instruction=recording.instruction[2:3] * 5)
    tasks, outputs = len(full.task_inputs), 2 + len(full.told)
    with Session(ProgramExecutor(bundle, OrtBackend(threads=1)), profile="keep50") as session:
        session.reset(recording.instruction[0])
        for index, inputs in enumerate(host_inputs(recording, checkpoint)):
            step = full if index < policy.warmup_steps else pruned
            with torch.inference_mode():
                out = step(*inputs, *state)
            state = (*state[:tasks], *out[outputs:])
            chunk = session.act(_observation(recording, index))
            assert chunk.telemetry is not None
            np.testing.assert_array_equal(chunk.telemetry.kept, out[1][0].numpy())
            if policy.merges:
                np.testing.assert_array_equal(chunk.telemetry.fate, out[2][0].numpy())
            if ENCODED_AGES in full.told:
                np.testing.assert_array_equal(chunk.telemetry.encoded_ages, out[2][0].numpy())
                assert (out[2] > 0).sum() == (0 if index == 0 else 4)  # half of eight patches
            else:
                assert chunk.telemetry.encoded_ages is None


def test_the_manifest_says_what_the_checkpoint_says(exported: Exported, checkpoint: Checkpoint) -> None:
    manifest = exported[1].manifest
    assert (manifest.name, manifest.family, manifest.license) == ("tiny", "openvla_oft", "Apache-2.0")
    assert [segment.name for segment in manifest.sequence] == [
        "bos",
        "visual",
        "proprio",
        "text",
        "action",
        "eos",
    ]
    assert manifest.limits == checkpoint.embodiment.limits
    assert manifest.producer["torch"] == torch.__version__


def test_receipts_lie_in_the_bundle(exported: Exported) -> None:
    bundle, report = exported
    parity, lint, accounting, export = (
        json.loads((bundle / "receipts" / f"{name}.json").read_text())
        for name in ("parity", "lint", "accounting", "export")
    )
    assert set(parity["profiles"]) == set(lint) == set(accounting) == set(report.parity)
    assert accounting["full"]["ratio_to_full"] == 1.0
    assert all(account["ratio_to_full"] < 1.0 for name, account in accounting.items() if name != "full")
    assert "full: capture" in export["seconds"]
    assert "weights.bin" in export["bytes"]
    assert export["versions"]["torch"] == torch.__version__


def test_profiles_are_named_by_their_share() -> None:
    plans = plan_profiles((0.125, 1.0, 0.5, 0.25), 200)
    assert [(plan.name, plan.budget) for plan in plans] == [
        ("full", 200), ("keep50", 100), ("keep25", 50), ("keep12.5", 25),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ratios", "message"),
    [
        ((0.5, 0.25), "expected 1.0 among the keep ratios"),
        ((), "expected 1.0 among the keep ratios"),
        ((1.0, 0.0), "above 0 and at most 1, found 0.0"),
        ((1.0, 1.5), "above 0 and at most 1, found 1.5"),
        ((1.0, 0.5, 0.5), "that differ by a token"),
        ((1.0, 0.5, 0.51), "that differ by a token"),
    ],
)
def test_impossible_profiles_are_refused(ratios: tuple[float, ...], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        plan_profiles(ratios, 8)


def test_a_bad_policy_is_named_before_any_work(checkpoint_path: Path, tmp_path: Path) -> None:
    for policy, options, message in (
        ("vla_prunner", {}, "did you mean 'vla_pruner'"),
        ("vla_pruner", {"windw": 3}, "did you mean 'window'"),
        ("keep_all", {}, "keeps all 8 visual tokens, found keep 4"),
    ):
        request = ExportRequest(
            checkpoint=checkpoint_path, out=tmp_path / "b", policy=policy, options=options
        )
        with pytest.raises(PolicyError, match=message):
            export_bundle(request, lambda what: None)


def test_calibration_wants_recorded_frames(checkpoint_path: Path, tmp_path: Path) -> None:
    """Random pictures must not decide whether late layers may go without visual tokens."""
    request = ExportRequest(
        checkpoint=checkpoint_path, out=tmp_path / "b", policy="todre", options={"stage2": "auto"}
    )
    with pytest.raises(
        ExportError, match="expected recorded frames to calibrate it on, found none; give --frames"
    ):
        export_bundle(request, lambda what: None)


def test_what_calibration_decided_stands_in_manifest_and_receipt(
    checkpoint_path: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    seen = synthetic_recording(checkpoint, 3)
    frames = {"images": seen.images, "proprio": seen.proprio, "instruction": np.array(seen.instruction)}
    np.savez(tmp_path / "frames.npz", **frames)
    request = ExportRequest(
        checkpoint=checkpoint_path,
        out=tmp_path / "b",
        policy="fastv",
        options={"exclude_sinks": "auto"},
        keep_ratios=(1.0, 0.5),
        frames=tmp_path / "frames.npz",
    )
    recipe = ControlRecipe(request, Stopwatch(lambda what: None))
    receipt = json.loads(json.dumps(plain(recipe.grounds())))["calibration"]
    threshold = recipe.steps["keep50"].policy.config.as_dict()["exclude_sinks"]
    assert receipt["decided"] == {
        "full": {"exclude_sinks": threshold},
        "keep50": {"exclude_sinks": threshold},
    }
    (columns,) = receipt["signals"].values()
    assert np.shape(columns) == (3, 8) and sink_threshold(tuple(map(tuple, columns))) == threshold


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    request = ExportRequest(checkpoint=tmp_path / "none", out=tmp_path / "out" / "b", policy="keep_all")
    with pytest.raises(CheckpointError):
        export_bundle(request, lambda what: None)
    assert not (tmp_path / "out").exists()
