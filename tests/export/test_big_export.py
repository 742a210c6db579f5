"""The promises to small machines: an export does not hold the model, and one that is killed leaves no half bundle."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.anonymous_memory import watch
from saccade.export.bundle.graph_session import MAPPED_FROM_BYTES
from saccade.export.control.pipeline import ExportRequest, export_bundle
from saccade.export.families.reader import AnsweringReader
from saccade.export.families.registry import family_reader, load_checkpoint
from saccade.export.loading.mapped_weight import MAPPED_BYTES, MappedWeight
from saccade.proto.manifest import read_manifest
from tests.export.wide_checkpoints import WIDE, WIDTH

SACCADE = str(Path(sys.executable).with_name("saccade"))


@pytest.mark.skipif(sys.platform != "linux", reason="NOT CHECKED: reads /proc")
@pytest.mark.parametrize("family", ["pi05", "llava"])
def test_an_export_does_not_hold_the_model(tmp_path: Path, family: str) -> None:
    """One family of each recipe; what loads the others is checked below."""
    checkpoint, out = tmp_path / "checkpoint", tmp_path / "bundle"
    WIDE[family](checkpoint, WIDTH)
    shards = [path.stat().st_size for path in checkpoint.glob("model*.safetensors")]
    answers = isinstance(family_reader(family), AnsweringReader)
    command = ["export-answering", "--questions", "1"] if answers else ["export"]
    options = ["--out", str(out), "--policy", "keep_all", "--keep", "1.0"]
    imported = watch([sys.executable, "-c", "import saccade.export.control.pipeline"], tmp_path / "log")
    exported = watch([SACCADE, *command, str(checkpoint), *options], tmp_path / "log")
    assert exported.code == 0, exported.said
    weights = (out / "graphs" / "weights.bin").stat().st_size
    assert len(shards) > 4
    assert weights > 2 * MAPPED_FROM_BYTES  # so that ONNX Runtime maps it, and a copy of it would show
    # Libraries loaded later, the graph and the work on the largest weights take half as much; a copy adds it whole.
    added = exported.peak_bytes - imported.peak_bytes
    assert added < 1.3 * max(shards) + 0.6 * weights, (imported.peak_bytes, exported.peak_bytes, weights)


@pytest.mark.parametrize("family", ["openvla_oft", "pi0", "pi05", "smolvla"])
def test_large_weights_stay_in_their_files(tmp_path: Path, family: str) -> None:
    WIDE[family](tmp_path / "checkpoint", 512)
    model = load_checkpoint(tmp_path / "checkpoint", mapped=True).module
    large = {name: weight for name, weight in model.named_parameters() if weight.nbytes >= MAPPED_BYTES}
    assert len(large) > 3 * 3
    assert {name for name, weight in large.items() if not isinstance(weight, MappedWeight)} == set()


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
