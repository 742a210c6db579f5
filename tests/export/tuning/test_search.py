"""A search on real frames: it improves on the default or keeps it, goes on where it stopped, and ends in the bundle."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from saccade.export.control.frames import host_inputs, synthetic_recording
from saccade.export.control.pipeline import ExportRequest, export_bundle
from saccade.export.control.tuned import read_tuned
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.steps.selecting_module import Named, initial_state
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.export.tuning.objectives import OBJECTIVES
from saccade.export.tuning.search import TuneRequest, tune
from saccade.policies.registry import build_policy
from saccade.proto.errors import ExportError
from saccade.runtime.bundle import Bundle
from saccade.runtime.commands.main import main
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.observation import Observation
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.session import Session
from tests.export.samples import tiny_model


@pytest.fixture
def frames(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    recording = synthetic_recording(checkpoint, 7)
    path = tmp_path / "frames.npz"
    np.savez(
        path,
        images=recording.images,
        proprio=recording.proprio,
        instruction=np.array(recording.instruction, dtype=np.str_),
    )
    return path


@pytest.fixture
def request_(checkpoint_path: Path, frames: Path, tmp_path: Path) -> TuneRequest:
    return TuneRequest(
        checkpoint=checkpoint_path,
        policy="vla_pruner",
        keep_ratio=0.5,
        frames=frames,
        study=str(tmp_path / "search.journal"),
        objective="action_error",
        trials=3,
    )


def quiet(done: int, trials: int, best: float | None, default: float) -> None:
    del done, trials, best, default


def by_hand(checkpoint: Checkpoint, options: dict[str, object]) -> float:
    """Mean absolute action difference over pruned frames, written out."""
    model = checkpoint.model
    shape = build_policy("keep_all", {}, _shape(checkpoint))
    policy = build_policy("vla_pruner", options, _shape(checkpoint))
    whole = SinglePassStep(model, shape, 8)
    full, pruned = SinglePassStep(model, policy, 8), SinglePassStep(model, policy, 4)
    state, errors = initial_state(full), []
    for index, frame in enumerate(host_inputs(synthetic_recording(checkpoint, 7), checkpoint)):
        step = full if index < policy.warmup_steps else pruned
        with torch.inference_mode():
            actions, _, *state = step(*frame, *state)
            if index >= policy.warmup_steps:
                errors.append(float((actions - whole(*frame)[0]).abs().mean()))
    return float(np.mean(errors))


def _shape(checkpoint: Checkpoint) -> object:
    from saccade.export.steps.policy_checks import model_shape

    return model_shape(checkpoint.model)


def test_values_are_what_the_modules_give(request_: TuneRequest, checkpoint: Checkpoint) -> None:
    found = tune(request_, quiet)
    assert found.default_value == pytest.approx(by_hand(checkpoint, {}), rel=1e-4)
    assert found.value == pytest.approx(by_hand(checkpoint, found.options), rel=1e-4)
    assert found.value <= found.default_value
    assert (found.trials, found.frames) == (3, 7)


def test_a_search_goes_on_where_it_stopped(request_: TuneRequest) -> None:
    seen: list[int] = []
    tune(request_, quiet)
    tune(replace(request_, trials=5), lambda done, trials, best, default: seen.append(done))
    assert seen == [3, 4, 5]


def test_a_journal_of_another_search_is_refused(request_: TuneRequest) -> None:
    tune(request_, quiet)
    with pytest.raises(ExportError, match="expected the journal of this search"):
        tune(replace(request_, keep_ratio=0.25), quiet)


def test_another_tokenizer_is_another_search(request_: TuneRequest, tmp_path: Path) -> None:
    checkpoint = shutil.copytree(request_.checkpoint, tmp_path / "checkpoint")
    given = tmp_path / "tokenizer.json"
    shutil.move(checkpoint / "tokenizer.json", given)
    once = replace(request_, checkpoint=checkpoint, tokenizer=given, trials=1)
    expected = tune(replace(request_, trials=1, study=str(tmp_path / "own.journal")), quiet)
    assert tune(once, quiet).default_value == expected.default_value
    given.write_text(given.read_text() + " ")
    with pytest.raises(ExportError, match="expected the journal of this search"):
        tune(once, quiet)


def test_the_cosine_of_the_unpruned_model_with_itself_is_one(checkpoint: Checkpoint) -> None:
    step = SinglePassStep(tiny_model(), build_policy("keep_all", {}, _shape(checkpoint)), 8)
    (frame,) = list(host_inputs(synthetic_recording(checkpoint, 1), checkpoint))
    output = step.step(frame, Named({}, {}))
    assert OBJECTIVES["last_token"].measure(output, output).item() == pytest.approx(1.0, abs=1e-5)
    assert OBJECTIVES["action_query"].measure(output, output).item() == pytest.approx(1.0, abs=1e-5)
    assert OBJECTIVES["action_error"].measure(output, output).item() == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": "beauty"}, "expected an objective of last_token, action_query, action_error"),
        ({"keep_ratio": 1.0}, "expected a keep ratio between 0 and 1"),
        ({"policy": "keep_all"}, "expected options to search, found none"),
        ({"options": {"warmup_steps": 7}}, "more frames than the 7 of the policy's warm-up, found 7"),
    ],
)
def test_a_search_that_cannot_be_is_refused(
    request_: TuneRequest, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        tune(replace(request_, **change), quiet)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (".", "expected a path that ends in the name to write"),
        ("file/keep50.json", "what is there is no folder"),
        ("n" * 300, "choose a shorter name"),
        ("result.journal", "found the name of its journal"),
        ("folder", "found a folder: name a file in it"),
    ],
)
def test_a_result_that_cannot_be_written_is_refused_before_the_search(
    out: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("folder").mkdir()
    arguments = ["--policy", "vla_pruner", "--keep", "0.5", "--frames", "none.npz", "--out", out]
    found = CliRunner().invoke(main, ["tune", "no checkpoint", *arguments])
    assert found.exit_code == 1 and found.output.endswith("[file]\n")
    assert message in found.output


def test_the_result_ends_in_the_bundle(checkpoint_path: Path, frames: Path, tmp_path: Path) -> None:
    out = tmp_path / "keep50.json"
    arguments = ["--policy", "vla_pruner", "--keep", "0.5", "--frames", str(frames), "--trials", "6"]
    ran = CliRunner().invoke(
        main,
        [
            "tune",
            str(checkpoint_path),
            *arguments,
            "--policy-option",
            "window=2",
            "--out",
            str(out),
            "--json",
        ],
    )
    assert ran.exit_code == 0, ran.output
    tuned = read_tuned(out)
    assert json.loads(ran.stdout)["options"] == tuned.options
    nowhere = ["tune", str(tmp_path / "none"), *arguments, "--out", str(out)]
    assert CliRunner().invoke(main, nowhere).output.endswith("[checkpoint]\n")
    request = ExportRequest(
        checkpoint=checkpoint_path,
        out=tmp_path / "bundle",
        policy="vla_pruner",
        options={"window": 2},
        keep_ratios=(1.0, 0.5),
        tuned=(out,),
        frames=frames,
    )
    export_bundle(request, lambda what: None)
    manifest = Bundle.open(request.out).manifest
    full, keep50 = manifest.profiles
    assert full.policy_config == {}
    assert keep50.policy_config == ({} if tuned.options == manifest.policy.config else tuned.options)
    receipt = json.loads(Bundle.open(request.out).read("receipts/tune.json"))
    assert receipt["keep50"]["options"] == tuned.options
    assert receipt["keep50"]["frames_sha256"] == tuned.frames_sha256
    with pytest.raises(ExportError, match="expected the one search of policy 'fastv'"):
        export_bundle(replace(request, policy="fastv", options={}, overwrite=True), lambda what: None)


def test_what_calibration_decides_is_part_of_the_result(request_: TuneRequest) -> None:
    fixed = {"stage2": "auto", "budget": "joint"}
    found = tune(replace(request_, policy="todre", options=fixed, trials=1), quiet)
    assert found.options["stage2"] in ("on", "off")


def test_one_profile_may_merge_and_another_not(
    checkpoint_path: Path, frames: Path, request_: TuneRequest, tmp_path: Path
) -> None:
    """Then all of them say what carries each token."""
    fixed = {"resample": "even"}
    tune(replace(request_, policy="quota", options=fixed, trials=1), quiet).write(tmp_path / "even.json")
    request = ExportRequest(
        checkpoint=checkpoint_path,
        out=tmp_path / "bundle",
        policy="quota",
        options={"resample": "bilinear"},
        keep_ratios=(1.0, 0.5, 0.25),
        tuned=(tmp_path / "even.json",),
        frames=frames,
    )
    export_bundle(request, lambda what: None)
    bundle = Bundle.open(request.out)
    resampled = [profile.policy_config.get("resample") for profile in bundle.manifest.profiles]
    assert resampled == [None, "even", None]
    seen = np.load(frames)
    names = [view.name for view in bundle.manifest.views]
    with Session(ProgramExecutor(bundle, OrtBackend(threads=1))) as session:
        session.reset(str(seen["instruction"][0]))
        for step, profile in enumerate(("full", "keep50", "keep25")):
            images = dict(zip(names, seen["images"][step], strict=True))
            observation = Observation(images, seen["proprio"][step], 0, step + 1, wants_telemetry=True)
            telemetry = session.act(observation, profile).telemetry
            assert telemetry is not None
            fate, kept = telemetry.fate.tolist(), telemetry.kept.tolist()
            assert set(fate) - {-1} == set(kept)
            carried = sum(token != -1 for token in fate)
            assert (carried > len(kept)) == (profile == "keep25")  # bilinear: merged; even: dropped


def test_a_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for text in ("{", "[]", '{"policy": "vla_pruner"}'):
        path.write_text(text)
        with pytest.raises(ExportError, match="expected the result of `saccade tune`"):
            read_tuned(path)
