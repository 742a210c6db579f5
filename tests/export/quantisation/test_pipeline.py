"""A real bundle lowered, served by the real runtime, and every way in which it is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade.export.quantisation.pipeline import lower_bundle
from saccade.export.quantisation.request import LowerReport, LowerRequest
from saccade.export.quantisation.trajectory import ProfileRunner
from saccade.proto.errors import BundleIntegrityError, ExportError, SaccadeError, UnknownLoweringError
from saccade.proto.manifest import Manifest, read_manifest
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.registry import ENGINES, open_backend, why_not
from saccade.runtime.program import ProgramExecutor
from tests.export.quantisation.conftest import Measured
from tests.tiny_answerer import write_tiny_answerer

LOWERED = ("int4", "cpu-int8", "gpu-fp16", "gpu-fp16-opset23")


def lower(out: Path, measured: Measured, frames: Path, **options: Any) -> LowerReport:
    asked = {
        "bundle": measured.bundle,
        "lowerings": LOWERED,
        "block": 16,
        "budget": 0.5,
        **options,
    }
    return lower_bundle(LowerRequest(out=out, frames=frames, **asked), lambda what: None)


@pytest.fixture(scope="module")
def lowered(
    measured: Measured, frames_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, LowerReport]:
    out = tmp_path_factory.mktemp("lowered") / "bundle"
    return out, lower(out, measured, frames_file)


def actions(bundle: Path, engine: str, lowering: str, measured: Measured) -> np.ndarray:
    """The first step of the full profile, by the robot's own executor."""
    with open_backend(engine, threads=1) as backend:
        program = ProgramExecutor(Bundle.open(bundle), backend, lowering=lowering)
        for name, values in program.inputs.items():
            values[...] = measured.frames[0][name]
        return program.step("full", {})["actions"][0].copy()


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_runs_every_form(
    lowered: tuple[Path, LowerReport], measured: Measured, engine: str
) -> None:
    if reason := why_not(engine):
        pytest.skip(f"NOT CHECKED on {engine}: {reason}")
    record, manifest = measured.records["full"][0], read_manifest(lowered[0])
    np.testing.assert_allclose(actions(lowered[0], engine, "cpu-fp32", measured), record.actions, atol=1e-4)
    profile = manifest.profile("full")
    for lowering in LOWERED:
        graph = manifest.lowered(lowering)[profile.stages[0].graph]
        form = replace(profile, stages=(replace(profile.stages[0], graph=graph),))
        judged = ProfileRunner(lowered[0], manifest, form).run(record.inputs)["actions"][0]
        found = actions(lowered[0], engine, lowering, measured)
        if engine == "ort-cpu":
            np.testing.assert_allclose(found, judged, atol=1e-5)
        if lowering in {"int4", "cpu-int8"}:
            lost = np.abs(judged - record.actions).max()
            assert np.abs(found - judged).max() < lost / 2, "rounded so, not otherwise"
        else:  # where an engine rounds to float16 is its own affair
            np.testing.assert_allclose(found, record.actions, atol=3e-2)


def test_the_manifest_tells_what_was_done(lowered: tuple[Path, LowerReport], measured: Measured) -> None:
    out, report = lowered
    manifest = read_manifest(out)
    assert manifest == report.manifest
    assert Bundle.open(out).manifest == manifest, "every file is listed, no other is there"
    assert manifest.lowered("cpu-fp32") == {graph: graph for graph in measured.manifest.graphs}
    for lowering in manifest.lowerings:
        assert set(lowering.graphs) == set(measured.manifest.graphs)
        if lowering.name in {"int4", "cpu-int8"}:
            rest = lowering.settings["float32"]
            assert not set(rest) & set(lowering.settings["int4" if lowering.name == "int4" else "int8"])
        else:
            assert set(lowering.settings["float16"]) == set(lowering.graphs) and not lowering.settings["wide"]
        receipt = json.loads((out / f"receipts/lowering.{lowering.name}.json").read_text())
        for profile, found in report.judgements[lowering.name].items():
            assert receipt["profiles"][profile]["share"] == found.share
            assert 0 < found.worst_share < 1
    assert report.judgements["cpu-int8"].keys() == {profile.name for profile in manifest.profiles}


def test_weights_are_stored_once_for_all_profiles(
    lowered: tuple[Path, LowerReport], measured: Measured
) -> None:
    out, _ = lowered
    whole = (out / "graphs/weights.bin").stat().st_size
    assert (out / "graphs/weights.bin").read_bytes() == (measured.bundle / "graphs/weights.bin").read_bytes()
    assert (out / "graphs/weights.int4.bin").stat().st_size < whole / 4
    assert (out / "graphs/weights.cpu-int8.bin").stat().st_size < whole / 2
    assert 0 < (out / "graphs/weights.gpu-fp16.bin").stat().st_size < whole / 2


def test_a_lowering_that_is_not_there_is_said(lowered: tuple[Path, LowerReport]) -> None:
    with pytest.raises(
        UnknownLoweringError, match=r"\(cpu-fp32, int4, cpu-int8, gpu-fp16, gpu-fp16-opset23\), found 'fp8'"
    ):
        read_manifest(lowered[0]).lowered("fp8")


def test_what_cannot_be_lowered_is_refused_and_leaves_nothing(
    lowered: tuple[Path, LowerReport], measured: Measured, frames_file: Path, tmp_path: Path
) -> None:
    damaged = shutil.copytree(measured.bundle, tmp_path / "damaged")
    with (damaged / "graphs/weights.bin").open("r+b") as file:
        file.write(b"\1")
    few = tmp_path / "few.npz"
    with np.load(frames_file) as stored:
        np.savez(few, **{name: values[:5] for name, values in stored.items()})
        wide = np.repeat(stored["images"], 2, axis=3)
        np.savez(tmp_path / "wide.npz", **{**dict(stored), "images": wide})
    refused: list[tuple[type[SaccadeError], str, dict[str, Any]]] = [
        (ExportError, "each named once, found fp8", {"lowerings": ("fp8",)}),
        (ExportError, "each named once, found none", {"lowerings": ()}),
        (ExportError, "found it there", {"bundle": lowered[0]}),
        (
            BundleIntegrityError,
            r"weights\.bin: expected the file that manifest\.json lists",
            {"bundle": damaged},
        ),
        (ExportError, "few.npz: expected at least", {"frames": few}),
        (ExportError, "wide.npz: images: expected uint8", {"frames": tmp_path / "wide.npz"}),
        (ExportError, "within 0.0% of an action's range", {"budget": 1e-9, "lowerings": ("cpu-int8",)}),
        (
            ExportError,
            "controls a robot, in one graph for each profile, found .* of kind answer",
            {"bundle": write_tiny_answerer(tmp_path / "answerer")},
        ),
    ]
    for kind, message, options in refused:
        frames = options.pop("frames", frames_file)
        with pytest.raises(kind, match=message):
            lower(tmp_path / "out", measured, frames, **options)
        assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_a_manifest_without_lowerings_is_as_it_was(measured: Measured) -> None:
    text = (measured.bundle / "manifest.json").read_text()
    assert "lowerings" not in json.loads(text) and isinstance(measured.manifest, Manifest)
