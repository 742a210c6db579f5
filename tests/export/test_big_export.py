"""The promises to small machines: an export does not hold the model, and one that is killed leaves no half bundle."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.anonymous_memory import Watched, watch
from benchmarks.random_oft import Shape, write_random_frames, write_random_oft
from saccade.export.loading.shards import StoredWeights
from saccade.export.pipeline import ExportRequest, export_bundle
from saccade.proto.manifest import read_manifest

SACCADE = str(Path(sys.executable).with_name("saccade"))
TOWER = {"width": 64, "depth": 3, "heads": 2, "mlp_dim": 128}
SMALL = Shape(
    text={
        "hidden_size": 64,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "intermediate_size": 128,
    },
    towers=(TOWER, TOWER),
    image_px=28,
    shard_bytes=48_000_000,
)
MEDIUM = replace(SMALL, text={**SMALL.text, "hidden_size": 1024, "intermediate_size": 2816})
"""The same graph, with some hundred MB of weights."""


def _export(folder: Path, shape: Shape) -> tuple[Path, Watched]:
    checkpoint = write_random_oft(folder / "checkpoint", shape)
    frames = write_random_frames(folder / "frames.npz", shape, 1)
    command = [SACCADE, "export", str(checkpoint), "--out", str(folder / "bundle"), "--frames", str(frames)]
    watched = watch([*command, "--policy", "fastv", "--keep", "1.0,0.5"], folder / "log")
    assert watched.code == 0, watched.said
    return checkpoint, watched


@pytest.mark.skipif(sys.platform != "linux", reason="NOT CHECKED: reads /proc")
def test_an_export_does_not_hold_the_model(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "medium").mkdir()
    _, small = _export(tmp_path / "small", SMALL)
    checkpoint, medium = _export(tmp_path / "medium", MEDIUM)
    shards = [path.stat().st_size for path in checkpoint.glob("*.safetensors")]
    stored = StoredWeights(checkpoint)
    used = (name for name in stored if "lm_head" not in name)
    model_bytes = sum(4 * stored.read(name).numel() for name in used)
    assert len(shards) > 4
    assert model_bytes > 5e8
    # Libraries and graphs are in both. What the model adds is a few of its largest weights, not the model once.
    added = medium.peak_bytes - small.peak_bytes
    assert added < 1.3 * max(shards) + 0.5 * model_bytes, (small.peak_bytes, medium.peak_bytes)
    weights = tmp_path / "medium" / "bundle" / "graphs" / "weights.bin"
    assert model_bytes < weights.stat().st_size < 1.1 * model_bytes + 5e7


def test_a_killed_export_leaves_no_bundle_and_the_next_one_cleans_up(
    checkpoint_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    command = [SACCADE, "export", str(checkpoint_path), "--out", str(out), "--policy", "keep_all"]
    process = subprocess.Popen([*command, "--keep", "1.0"], stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob(".bundle.partial-*/graphs/weights.bin")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert [path.name.startswith(".bundle.partial-") for path in tmp_path.iterdir()] == [True]
    request = ExportRequest(checkpoint=checkpoint_path, out=out, policy="keep_all", keep_ratios=(1.0,))
    export_bundle(request, lambda what: None)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert read_manifest(out).policy.name == "keep_all"
