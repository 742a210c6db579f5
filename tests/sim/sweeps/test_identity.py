"""Two bundles are the same if they act the same, and a simulator if its code is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from saccade.proto.distribution import VERSION
from saccade.proto.errors import BundleError
from saccade.sim.sweeps.identity import bundle_digest, identity, scorer_beside, simulator_digest
from tests.sim.tabletop_bundle import write_tabletop_bundle


def test_a_bundle_is_what_acts(bundle: Path, tmp_path: Path) -> None:
    again = write_tabletop_bundle(tmp_path / "again")
    assert bundle_digest(again) == bundle_digest(bundle)
    manifest = again / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "created": "2026-01-01T00:00:00Z"}))
    assert bundle_digest(again) == bundle_digest(bundle)
    content["policy"]["warmup_steps"] += 1
    manifest.write_text(json.dumps(content))
    assert bundle_digest(again) != bundle_digest(bundle)


def test_a_scorer_beside_it_counts(bundle: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(bundle, tmp_path / "acts")
    before = bundle_digest(alone)
    assert scorer_beside(alone) is None
    scorer = shutil.copytree(bundle, tmp_path / "acts.scorer")
    assert scorer_beside(alone) == scorer and bundle_digest(alone) != before


def test_an_identity_names_versions_and_digests(bundle: Path, tmp_path: Path) -> None:
    found = identity(bundle)
    assert found["saccade"] == VERSION and found["mujoco"] and found["onnxruntime"]
    assert (found["simulator"], found["bundle"]) == (simulator_digest(), bundle_digest(bundle))
    with pytest.raises(BundleError):
        identity(tmp_path)
