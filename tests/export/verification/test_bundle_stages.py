"""A bundle gives what the model that it was exported from gives, through its own graphs and files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from saccade.export.control.frames import synthetic_recording
from saccade.export.control.pipeline import ExportReport
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.verification.acting_stages import acting_stages, named_inputs
from saccade.export.verification.bundle_stages import (
    bundle_acting_stages,
    check_same_model,
    checkpoint_as_bundled,
    read_whole_bundle,
)
from saccade.export.verification.comparison import compare_stages
from saccade.proto.bundle_kind import BundleKind
from saccade.proto.errors import BundleIntegrityError, ExportError


def test_a_bundle_acts_as_its_checkpoint_does(
    checkpoint: Checkpoint, exported: tuple[Path, ExportReport]
) -> None:
    """With every policy that a bundle may have: the full profile keeps all tokens, a carry starts as after a reset."""
    bundle, report = exported
    recording = synthetic_recording(checkpoint, 2)
    ours = acting_stages(checkpoint, recording, named_inputs(recording, checkpoint))
    bundled = checkpoint_as_bundled(checkpoint, bundle, report.manifest)
    found, _ = compare_stages(
        bundle_acting_stages(bundled, recording, bundle, report.manifest), ours, 2, 1e-4
    )
    assert [stage.stage for stage in found] == [
        "prompt tokens",
        "proprioception",
        "actions",
        "actions in units",
    ]
    assert all(stage.agrees for stage in found), found


def test_statistics_and_tokenizer_are_the_bundle_s(
    checkpoint: Checkpoint, exported: tuple[Path, ExportReport]
) -> None:
    bundle, report = exported
    bundled = checkpoint_as_bundled(checkpoint, bundle, report.manifest)
    assert bundled.tokenizer.parent == bundle and bundled.instruction == report.manifest.instruction


def test_other_statistics_are_seen_and_nothing_before_them_differs(
    checkpoint: Checkpoint, exported: tuple[Path, ExportReport], tmp_path: Path
) -> None:
    manifest = exported[1].manifest
    bundle = Path(shutil.copytree(exported[0], tmp_path / "bundle"))
    path = bundle / manifest.statistics
    statistics = json.loads(path.read_text())
    statistics[manifest.statistics_key]["action"]["q99"][0] += 0.5
    path.write_text(json.dumps(statistics))
    recording = synthetic_recording(checkpoint, 1)
    ours = acting_stages(checkpoint, recording, named_inputs(recording, checkpoint))
    bundled = checkpoint_as_bundled(checkpoint, bundle, manifest)
    found, _ = compare_stages(bundle_acting_stages(bundled, recording, bundle, manifest), ours, 1, 1e-4)
    assert [stage.stage for stage in found if not stage.agrees] == ["actions in units"]


def test_a_damaged_bundle_is_refused(exported: tuple[Path, ExportReport], tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(exported[0], tmp_path / "bundle"))
    assert read_whole_bundle(bundle) == exported[1].manifest
    with (bundle / "tokenizer.json").open("a") as file:
        file.write(" ")
    with pytest.raises(
        BundleIntegrityError, match=r"tokenizer\.json: expected \d+ bytes, .* found \d+; copy"
    ):
        read_whole_bundle(bundle)
    (bundle / "tokenizer.json").unlink()
    with pytest.raises(BundleIntegrityError, match="found no such file"):
        read_whole_bundle(bundle)


def test_a_bundle_of_another_model_is_refused(
    checkpoint: Checkpoint, exported: tuple[Path, ExportReport]
) -> None:
    manifest = exported[1].manifest
    for found in (replace(checkpoint, family="pi0"), checkpoint):
        kind = BundleKind.ANSWER if found is checkpoint else BundleKind.CONTROL
        with pytest.raises(ExportError, match="name the checkpoint that it was exported from"):
            check_same_model(manifest, kind, found.family, found.model.grid.tokens)
