"""A tiny bundle of one policy with a carry, its frames, and its canonical control steps, made once a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from saccade.export.control.frames import FrameSpec, host_tensors, read_frames
from saccade.export.control.pipeline import ExportReport
from saccade.export.quantisation.judgement import ActionRuler
from saccade.export.quantisation.trajectory import StepRecord, Tensors, trajectories
from saccade.proto.manifest import Manifest, read_manifest
from saccade.proto.statistics import Statistics


class Measured(NamedTuple):
    """A bundle and what its canonical graphs do on its frames."""

    bundle: Path
    manifest: Manifest
    frames: list[Tensors]
    records: dict[str, list[StepRecord]]
    ruler: ActionRuler


@pytest.fixture(scope="session")
def measured(exported_once: Callable[[str], tuple[Path, ExportReport]], frames_file: Path) -> Measured:
    bundle, _ = exported_once("vla_pruner")
    manifest = read_manifest(bundle)
    spec = FrameSpec.of_bundle(bundle, manifest)
    frames = [
        {name: tensor.numpy() for name, tensor in tensors.items()}
        for tensors in host_tensors(read_frames(frames_file, spec), spec)
    ]
    records = trajectories(bundle, manifest, frames, ["full", "keep25"])
    statistics = Statistics.read(
        bundle / manifest.statistics,
        manifest.statistics_key,
        action_dim=manifest.action.dim,
        proprio_dim=manifest.proprio.dim,
    )
    return Measured(bundle, manifest, frames, records, ActionRuler(statistics.action))
