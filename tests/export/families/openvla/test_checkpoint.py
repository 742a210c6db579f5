"""OpenVLA from the files of a checkpoint to actions in physical units: export, serve, act, against transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from saccade.export.control.frames import host_inputs, synthetic_recording
from saccade.export.control.parity import ParityReceipt, ParityTolerance, check_parity
from saccade.export.families.embodiment import Embodiment, write_embodiment
from saccade.export.families.registry import load_checkpoint
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.step_of import acting_step
from saccade.policies.registry import build_policy
from saccade.proto.errors import CheckpointError, ReceiptError, SaccadeError
from saccade.proto.manifest import ActionSpec, LimitsSpec, VectorSpec, read_manifest
from saccade.runtime.client import Client
from saccade.runtime.clock import monotonic_ns
from saccade.runtime.commands.main import main
from saccade.runtime.daemon import Daemon, DaemonConfig
from saccade.runtime.observation import ActionChunk, Observation
from tests.export.centre_crop import centre_crop
from tests.export.families.llama_forced import said
from tests.export.families.llama_words import TEMPLATE, words, write_tokenizer
from tests.export.families.prismatic_reference import PATCHES, SIDE, VOCABULARY, Reference, statistics, write
from tests.export.families.published import pictures
from tests.export.inspection.agreement import check_agreement

DIM, KEY, VIEW = 3, "bridge", "front"
CAMERA = (20, 36)
STATISTICS = statistics(DIM, 7)
INSTRUCTIONS = (
    "Pick up the RED cup",
    "pick cup",
    "take the red cup to the robot",
    "pick up",
    "up to the cup",
)
"""The reference gets them in lower case."""


@cache
def theirs() -> Reference:
    model = Reference(fused=False, seed=3)
    model.llama.set_attn_implementation("eager")
    return model


def embodiment(dim: int = DIM, **changes: Any) -> Embodiment:
    names = (*(f"x{number}" for number in range(dim - 1)), "gripper")
    plain = Embodiment(
        name="openvla-tiny",
        license="MIT",
        views=(VIEW,),
        proprio=VectorSpec((), ()),
        action=ActionSpec(names, ("m",) * (dim - 1) + ("1",), 1, 5.0, "delta_ee"),
        limits=LimitsSpec((-9.0,) * dim, (9.0,) * dim, (18.0,) * dim),
    )
    return replace(plain, **changes)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write(
        theirs(), tmp_path_factory.mktemp("openvla") / "openvla", {"pretraining": statistics(7, 7, 9)}
    )
    (path / "dataset_statistics.json").write_text(json.dumps({KEY: STATISTICS}))
    write_tokenizer(path)
    write_embodiment(embodiment(crop=0.9, image_size=CAMERA), path)
    return path


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "openvla"))


Export = Callable[..., Path]


@pytest.fixture(scope="module")
def exported(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    @cache
    def run(policy: str, keep: str, *options: str) -> Path:
        out = tmp_path_factory.mktemp("bundles") / policy
        arguments = [str(published), "--out", str(out), "--policy", policy, "--keep", keep, "--json"]
        for option in options:
            arguments += ["--policy-option", option]
        result = CliRunner().invoke(main, ["export", *arguments])
        assert result.exit_code == 0, result.output
        return out

    return run


def physical(tokens: list[int]) -> NDArray[np.float64]:
    """The published formulas, one number at a time; the gripper is passed as it is."""
    edges = np.linspace(-1, 1, 256)
    numbers, action = [], STATISTICS["action"]
    for dim, token in enumerate(tokens):
        bin_ = min(max(32000 - token - 1, 0), 254)
        value = (edges[bin_] + edges[bin_ + 1]) / 2
        low, high = action["q01"][dim], action["q99"][dim]
        numbers.append(0.5 * (value + 1) * (high - low) + low if action["mask"][dim] else value)
    return np.array(numbers)


def looked_at(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The published processor's bicubic square, then the evaluation's crop."""
    squares = [Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for image in images]
    return centre_crop(np.stack([np.asarray(square) for square in squares]))


def acted(bundle: Path, profile: str) -> list[ActionChunk]:
    """One control step for each instruction, through the daemon; the arm keeps its memory where the policy has one."""
    with (
        Daemon(DaemonConfig(bundle, bind="127.0.0.1:0", threads=1)) as daemon,
        Client(daemon.address) as client,
        client.open(profile) as session,
    ):
        chunks = []
        for seed, instruction in enumerate(INSTRUCTIONS):
            session.reset(instruction)
            for step in range(1 + read_manifest(bundle).policy.warmup_steps):
                image = {VIEW: pictures(1, *CAMERA, seed)[0]}
                nothing = np.zeros(0, np.float32)
                now = monotonic_ns()
                chunk = session.act(Observation(image, nothing, now, step + 1, wants_telemetry=True))
            chunks.append(chunk)
        return chunks


@pytest.mark.parametrize(
    ("policy", "keep", "options", "profile", "cut"),
    [
        ("keep_all", "1.0", (), "full", 0),
        ("divprune", "1.0,0.25", (), "keep25", 0),
        ("fastv", "1.0,0.5", ("insertion_layer=2",), "keep50", 2),
        ("vla_pruner", "1.0,0.25", ("insertion_layer=1", "window=2"), "keep25", 1),
    ],
)
def test_actions_of_the_daemon_equal_the_reference(
    exported: Export, policy: str, keep: str, options: tuple[str, ...], profile: str, cut: int
) -> None:
    bundle, distinct = exported(policy, keep, *options), set()
    for seed, chunk in enumerate(acted(bundle, profile)):
        assert chunk.profile == profile and chunk.clamped == 0
        assert chunk.telemetry is not None
        kept = chunk.telemetry.kept.tolist()
        prompt = words(INSTRUCTIONS[seed].lower())
        tokens = said(theirs(), looked_at(pictures(1, *CAMERA, seed)), prompt, kept, cut, DIM)
        assert chunk.actions.shape == (1, DIM)
        np.testing.assert_allclose(chunk.actions[0], physical(tokens), atol=1e-5)
        distinct |= set(tokens)
    assert len([token for token in distinct if 31744 <= token < 32000]) > 5  # or all would be one bin


def test_the_bundle_says_what_it_is(exported: Export) -> None:
    bundle = exported("vla_pruner", "1.0,0.25", "insertion_layer=1", "window=2")
    manifest = read_manifest(bundle)
    assert (manifest.family, manifest.statistics_key, manifest.action.chunk) == ("openvla", KEY, 1)
    assert [tensor.name for tensor in manifest.tensors if tensor.role.value == "host"] == [
        "images", "token_ids", "attention_mask",
    ]  # fmt: skip
    assert manifest.instruction.template == TEMPLATE
    assert [(segment.name, segment.tokens) for segment in manifest.sequence][:2] == [
        ("fixed", 1), ("visual", PATCHES),
    ]  # fmt: skip
    parity = json.loads((bundle / "receipts/parity.json").read_text())["profiles"]
    assert all(profile["actions_max_error"] < 1e-6 for profile in parity.values())
    assert parity["keep25"]["carry_max_error"] < 1e-5
    assert all(0 < profile["logits_max_error"] < 1e-5 for profile in parity.values())


def test_the_checkpoint_is_described_as_its_bundle_is(exported: Export, published: Path) -> None:
    check_agreement(published, exported("keep_all", "1.0"))


def test_a_drift_that_turns_no_token_is_found(exported: Export, published: Path) -> None:
    graph, checkpoint = exported("keep_all", "1.0") / "graphs/step.full.onnx", load_checkpoint(published)
    frames = list(host_inputs(synthetic_recording(checkpoint, 2), checkpoint))
    keep_all = build_policy("keep_all", {}, model_shape(checkpoint.model))
    step = acting_step(checkpoint.model, keep_all, PATCHES, tells_fate=False)
    units, tolerance = checkpoint.statistics.action.physical_per_unit, ParityTolerance()

    def check() -> ParityReceipt:
        sides = {"profile": "full", "source": "synthetic"}
        return check_parity(graph, step, step, frames, **sides, physical_per_unit=units, tolerance=tolerance)

    assert check().logits_max_error < 1e-5
    with torch.no_grad():
        checkpoint.module.lm_head.weight.mul_(1.002)  # type: ignore[operator, union-attr]
    with pytest.raises(
        ReceiptError, match=r"error of a logit, relative to the largest, <= 0\.001, found 0\.002"
    ):
        check()


def test_what_a_step_costs_is_the_formula_by_hand(exported: Export) -> None:
    bundle = exported("keep_all", "1.0")
    account = json.loads((bundle / "receipts/accounting.json").read_text())["full"]
    stages, layer = account["stages"], 2 * 24 * (32 + 16) + 3 * 24 * 48
    assert stages["selection"]["macs"] == 0
    keys = 1 + PATCHES + 64
    attended = sum(2 * 32 * (keys + number) for number in range(1, DIM))
    assert stages["decode"]["macs"] == 3 * ((DIM - 1) * layer + attended)
    assert stages["decode"]["weight_bytes"] == 4 * (3 * (layer + 2 * 24) + 24)
    assert stages["decode"]["passes"] == DIM - 1
    head = {"macs": DIM * 24 * VOCABULARY, "weight_bytes": 4 * 24 * VOCABULARY, "passes": DIM}
    assert stages["lm_head"] == head
    assert account["kv_bytes"] == 3 * 2 * 16 * 4 * (keys + DIM - 1)


def test_several_data_sets_need_a_choice(folder: Path) -> None:
    both = {KEY: STATISTICS, "fractal": statistics(5, 5)}
    (folder / "dataset_statistics.json").write_text(json.dumps(both))
    with pytest.raises(CheckpointError, match=r"expected a choice \(statistics_key\) .* bridge, fractal"):
        load_checkpoint(folder)
    write_embodiment(embodiment(statistics_key="berkeley"), folder)
    with pytest.raises(CheckpointError, match=r"one of the data sets bridge, fractal, found 'berkeley'"):
        load_checkpoint(folder)
    write_embodiment(embodiment(statistics_key="fractal"), folder)
    with pytest.raises(CheckpointError, match=r"action: expected 5 as in config\.json, found 3"):
        load_checkpoint(folder)
    write_embodiment(embodiment(5, statistics_key="fractal"), folder)
    checkpoint = load_checkpoint(folder)
    assert checkpoint.model.action_shape == (1, 5) and checkpoint.statistics.action.low.shape == (5,)


def test_the_crop_is_off_unless_someone_says_it(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_embodiment(embodiment(), folder)
    checkpoint = load_checkpoint(folder)
    pixels = torch.from_numpy(pictures(1, SIDE, SIDE)).float()
    assert checkpoint.model.fit(pixels) is pixels and "a fine-tune, looked at without a crop" in caplog.text
    caplog.clear()
    augmented = folder.rename(folder.with_name("openvla+bridge+b16--image_aug"))
    found = load_checkpoint(augmented).model.fit(pixels).numpy()
    np.testing.assert_array_equal(found, centre_crop(pictures(1, SIDE, SIDE)))
    assert not caplog.text


def without(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).unlink()


def changed(name: str, **values: Any) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text()) | values
        (folder / name).write_text(json.dumps(content))

    return change


def pickled(folder: Path) -> None:
    for file in folder.glob("*safetensors*"):
        file.unlink()
    torch.save({"a": torch.zeros(1)}, folder / "pytorch_model.bin")


def no_statistics(folder: Path) -> None:
    (folder / "dataset_statistics.json").unlink()
    changed("config.json", norm_stats={})(folder)


def wrong_vocabulary(folder: Path) -> None:
    text = json.loads((folder / "config.json").read_text())["text_config"]
    changed("config.json", text_config=text | {"vocab_size": 32128})(folder)


def given(**changes: Any) -> Callable[[Path], Any]:
    return lambda folder: write_embodiment(embodiment(**changes), folder)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (no_statistics, r"expected statistics of at least one data set in dataset_statistics\.json"),
        (changed("dataset_statistics.json", bridge={"action": {"q01": [0.0]}}), "bridge: action: q99"),
        (wrong_vocabulary, r"wrong: .* \(expected \[32128, 24\], found \[32064, 24\]"),
        (changed("config.json", pad_to_multiple_of=31900), "n_action_bins: expected 2 to 164"),
        (
            without("tokenizer.json"),
            r"expected tokenizer\.json in openvla/ or openvla/tokenizer/, found none",
        ),
        (lambda folder: write_tokenizer(folder, last=40000), "expected token ids below 32064"),
        (lambda folder: write_tokenizer(folder, last=29870), r"the lone space, id 29871, found \[29870\]"),
        (given(template="In: {instruction}\nOut:"), "end it in 'Out: ', the space included"),
        (pickled, "a pickle can run code and is never opened here"),
        (without("b.safetensors"), r"expected shards beside it, found missing: b\.safetensors"),
        (without("embodiment.json"), r"expected embodiment\.json in openvla/, found none"),
        (given(views=("front", "wrist")), "expected 1 view"),
        (given(crop=90.0), "crop: expected a share of the area above 0, at most 1, found 90.0"),
        (given(cameras={VIEW: "top"}), "cameras: expected none, since this checkpoint names no camera"),
        (
            changed("preprocessor_config.json", interpolations=["bicubic", "nearest"]),
            "expected one way to resize for all towers, .* found bicubic, nearest",
        ),
        (given(proprio=VectorSpec(("x",), ("m",))), r"proprio: expected 0 as in config\.json, found 1"),
        (lambda folder: (folder / "statistics.json").write_text("{}"), r"found statistics\.json too"),
    ],
)
def test_a_bad_checkpoint_is_refused_with_a_reason(
    folder: Path, harm: Callable[[Path], Any], message: str
) -> None:
    harm(folder)
    with pytest.raises(SaccadeError, match=message):
        load_checkpoint(folder)


def test_the_command_says_what_is_wrong_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").unlink()
    result = CliRunner().invoke(main, ["export", str(folder), "--out", str(tmp_path / "bundle")])
    assert result.exit_code == 1 and result.output.endswith("[checkpoint]\n")
    assert "expected tokenizer.json in openvla/ or openvla/tokenizer/, found none" in " ".join(
        result.output.split()
    )
    assert not (tmp_path / "bundle").exists()
