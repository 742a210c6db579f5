"""Checkpoints of families that draw actions out of noise: what is read, and errors that name what does not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models

from saccade.export.families.embodiment import Embodiment, write_embodiment
from saccade.export.families.flow_checkpoint import special_tokens_before
from saccade.export.families.registry import load_checkpoint
from saccade.export.models.letterbox import Letterbox
from saccade.proto.errors import CheckpointError, SaccadeError
from saccade.proto.instruction_spec import TextStep
from saccade.proto.manifest import VectorSpec
from saccade.proto.scales import MeanStdScale, RangeScale
from saccade.proto.statistics import Statistics
from tests.export.families.control_steps import EMBODIMENT, read_steps
from tests.export.families.pi import test_pi0 as pi0_oracle
from tests.export.families.pi_scenes import ACTION, CHUNK
from tests.export.families.published import pictures

Written = Callable[[str], Path]


def edit(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    stored = json.loads((folder / name).read_text())
    change(stored)
    (folder / name).write_text(json.dumps(stored))


def embodied(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: write_embodiment(replace(EMBODIMENT, **changes), folder)


def quantised(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.state_proj.bias"] = weights["model.state_proj.bias"].to(torch.int8)
    save_file(weights, folder / "model.safetensors")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no embodiment": (
        lambda folder: (folder / "embodiment.json").unlink(),
        r"expected embodiment.json in .*, found none; .* cameras top, wrist, 5 numbers of proprioception and 4",
    ),
    "a camera that is not there": (
        embodied(views=("top", "left")),
        r"views: expected some of the cameras top, wrist, in this order, .* found top, left",
    ),
    "cameras the other way round": (embodied(views=("wrist", "top")), "in this order, .* found wrist, top"),
    "another chunk": (
        embodied(action=replace(EMBODIMENT.action, chunk=5)),
        "action.chunk: expected 6 as in config.json, found 5",
    ),
    "another template": (
        embodied(template="Do {instruction}."),
        r"template: expected '{instruction}\\n', .*; leave it out",
    ),
    "a camera of the checkpoint twice": (
        embodied(cameras={"top": "wrist", "wrist": "wrist"}), "cameras: .* each once, found"
    ),
    "a camera for no view": (embodied(cameras={"left": "top"}), "for some of the views top, wrist"),
    "a crop": (embodied(crop=0.9), "crop: expected none, as smolvla is evaluated, found 0.9"),
    "one number as image size": (embodied(image_size=(48,)), r"image_size: expected height and width, found \[48\]"),
    "no statistics": (
        lambda folder: (folder / "policy_preprocessor.json").unlink(),
        "expected policy_preprocessor.json in .*, found none; copy it, and the safetensors",
    ),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "expected tokenizer.json in .*, found none"),
    "a tokenizer of another model": (
        lambda folder: Tokenizer(models.WordLevel({"a": 96}, "a")).save(str(folder / "tokenizer.json")),
        "expected token ids below 96 .* found 96",
    ),
    "quantised weights": (quantised, "state_proj.bias: expected float32, .* found int8; quantised checkpoints are not"),
    "no type": (
        lambda folder: edit(folder, "config.json", lambda stored: stored.pop("type")),
        "expected a 'model_type' or 'type' of .*smolvla, found none",
    ),
    "cameras of two sizes": (
        lambda folder: edit(
            folder,
            "config.json",
            lambda stored: stored["input_features"]["observation.images.top"].update(shape=[3, 40, 64]),
        ),
        r"expected cameras of one size, found \[\(40, 64\), \(48, 64\)\]; say in embodiment.json, image_size",
    ),
    "a camera without height": (
        lambda folder: edit(
            folder,
            "config.json",
            lambda stored: stored["input_features"]["observation.images.top"].update(shape=[3, 40]),
        ),
        r"expected a shape of 3 numbers .* found \[3, 40\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_fit_is_named(lerobot_written: Written, tmp_path: Path, case: str) -> None:
    folder = shutil.copytree(lerobot_written("smolvla"), tmp_path / "smolvla")
    spoil, message = BROKEN[case]
    spoil(folder)
    with pytest.raises(SaccadeError, match=message):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        (
            {"proprio": VectorSpec(("x", "y"), ("m", "m"))},
            "proprio: expected 5 as in config.json, found 2",
        ),
        (
            {"action": replace(EMBODIMENT.action, chunk=5)},
            "action.chunk: expected 6 as in config.json, found 5",
        ),
    ],
)
def test_pi05_of_lerobot_fits_its_robot(
    lerobot_written: Written, tmp_path: Path, dims: dict[str, Any], message: str
) -> None:
    folder = shutil.copytree(lerobot_written("pi05"), tmp_path / "pi05")
    embodied(**dims)(folder)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_smolvla_as_lerobot_writes_it(lerobot_written: Written, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(lerobot_written("smolvla"))
    assert (checkpoint.family, checkpoint.instruction.template) == ("smolvla", "{instruction}\n")
    assert checkpoint.instruction.before == () and checkpoint.instruction.max_tokens == 24
    assert isinstance(checkpoint.statistics.action, MeanStdScale)
    assert checkpoint.embodiment.statistics_key == "tiny arm"
    checkpoint.write_statistics(tmp_path / "statistics.json")
    again = Statistics.read(tmp_path / "statistics.json", "tiny arm", action_dim=4, proprio_dim=5)
    states = read_steps(checkpoint.path).states
    np.testing.assert_array_equal(
        again.proprio.normalise(states), checkpoint.statistics.proprio.normalise(states)
    )


def test_one_camera_of_two_may_be_left_out(lerobot_written: Written, tmp_path: Path) -> None:
    folder = shutil.copytree(lerobot_written("smolvla"), tmp_path / "smolvla")
    write_embodiment(replace(EMBODIMENT, views=("wrist",), image_size=(30, 40)), folder)
    model = load_checkpoint(folder).model
    assert model.grid.views == 1 and model.image_size == (30, 40)


def renamed(folder: Path) -> None:
    """Say in the preprocessor that lerobot calls the robot's camera ``hand`` otherwise."""

    def change(stored: dict[str, Any]) -> None:
        names = {"observation.images.hand": "observation.images.wrist"}
        stored["steps"][0]["config"]["rename_map"] = names

    edit(folder, "policy_preprocessor.json", change)


@pytest.mark.parametrize("cameras", [{"hand": "wrist"}, {"hand": "observation.images.wrist"}, {}])
def test_a_robots_own_names_are_mapped_to_the_checkpoints(
    lerobot_written: Written, tmp_path: Path, cameras: dict[str, str]
) -> None:
    folder = shutil.copytree(lerobot_written("smolvla"), tmp_path / "smolvla")
    write_embodiment(replace(EMBODIMENT, views=("top", "hand"), cameras=cameras), folder)
    if not cameras:
        with pytest.raises(CheckpointError, match=r'found top, hand; .* say which is which: "cameras"'):
            load_checkpoint(folder)
        renamed(folder)
    checkpoint = load_checkpoint(folder)
    assert checkpoint.embodiment.views == ("top", "hand") and checkpoint.model.image_size == (48, 64)
    write_embodiment(replace(EMBODIMENT, views=("hand", "top"), cameras=cameras), folder)
    with pytest.raises(CheckpointError, match=r"in this order, .* found wrist, top"):
        load_checkpoint(folder)


def counts_from_the_state(folder: Path) -> None:
    """Let lerobot's preprocessor say that all but the gripper count from the state."""
    config = {"enabled": True, "exclude_joints": ["grip"], "action_names": ["x", "y", "gripper", "z"]}
    step = {"registry_name": "relative_actions_processor", "config": config}
    edit(folder, "policy_preprocessor.json", lambda stored: stored["steps"].append(step))
    back = {"registry_name": "absolute_actions_processor", "config": {"enabled": True}}
    edit(folder, "policy_postprocessor.json", lambda stored: stored["steps"].append(back))


@pytest.mark.parametrize(
    ("is_relative", "own", "found"),
    [
        (True, (), (True, True, False, True)),
        (True, (True, True, False, True), (True, True, False, True)),
        (True, (True,) * 4, None),
        (True, (False,) * 4, None),
        (False, (False,) * 4, ()),
        (False, (True, False, False, False), None),
    ],
)
def test_relative_actions_are_the_checkpoints_or_contradicted(
    lerobot_written: Written,
    tmp_path: Path,
    is_relative: bool,
    own: tuple[bool, ...],
    found: tuple[bool, ...] | None,
) -> None:
    folder = shutil.copytree(lerobot_written("smolvla"), tmp_path / "smolvla")
    embodied(action=replace(EMBODIMENT.action, relative=own))(folder)
    if is_relative:
        counts_from_the_state(folder)
    if found is None:
        with pytest.raises(CheckpointError, match=r"action.relative: expected .*, found \[.*; leave it out"):
            load_checkpoint(folder)
    else:
        assert load_checkpoint(folder).embodiment.action.relative == found


def as_openpi(folder: Path) -> None:
    """Turn lerobot's files into what openpi's conversion leaves, which names neither family nor cameras."""
    stored = json.loads((folder / "config.json").read_text())
    kept = ("paligemma_variant", "action_expert_variant", "image_resolution", "num_inference_steps")
    sizes = {"action_horizon": stored["chunk_size"], "action_dim": stored["max_action_dim"]}
    (folder / "config.json").write_text(json.dumps({**{name: stored[name] for name in kept}, **sizes}))
    vector = {"mean": [1.0] * 8, "std": [2.0] * 8, "q01": [-1.0] * 8, "q99": [3.0] * 8}
    (folder / "policy_preprocessor.json").unlink()
    (folder / "assets/arm").mkdir(parents=True)
    (folder / "assets/arm/norm_stats.json").write_text(
        json.dumps({"norm_stats": {"state": vector, "actions": vector}})
    )


def test_pi05_may_have_been_trained_without_the_state(
    lerobot_written: Written, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As openpi's ``pi05_libero``; lerobot's processor says that the state is in the prompt."""
    folder = shutil.copytree(lerobot_written("pi05"), tmp_path / "pi05")
    plain = {"template": "{instruction}\n", "image_size": (48, 64)}
    embodied(**plain)(folder)
    with pytest.raises(CheckpointError, match=r"template: expected 'Task: .*, or none, found '{instruction}"):
        load_checkpoint(folder)
    as_openpi(folder)
    checkpoint = load_checkpoint(folder)
    assert checkpoint.family == "pi05" and "nothing reads it" in caplog.text
    assert checkpoint.instruction.prompt("pick_up ") == "pick up\n" and checkpoint.instruction.state_bins == 0
    assert isinstance(checkpoint.statistics.action, RangeScale)
    nothing = VectorSpec((), ())
    embodied(**plain, proprio=nothing)(folder)
    assert load_checkpoint(folder).statistics.proprio.normalise(np.zeros((1, 0), np.float32)).shape == (1, 0)
    embodied(proprio=nothing)(folder)
    with pytest.raises(CheckpointError, match="proprio: expected the numbers that the model reads"):
        load_checkpoint(folder)


def test_openpi_resizes_otherwise_than_lerobot_and_has_cameras_of_its_own(
    lerobot_written: Written, tmp_path: Path
) -> None:
    folder = shutil.copytree(lerobot_written("pi05"), tmp_path / "pi05")
    embodied()(folder)
    pixels = torch.from_numpy(pictures(1, 48, 64)).float()
    theirs = load_checkpoint(folder).model.fit(pixels)
    as_openpi(folder)
    embodied(image_size=(48, 64), cameras={"top": "base_0_rgb", "wrist": "left_wrist_0_rgb"})(folder)
    found = load_checkpoint(folder).model.fit(pixels)
    box = Letterbox((48, 64), (28, 28), is_centred=True, is_antialiased=True)
    assert torch.equal(found, box(pixels)) and (found - theirs).abs().max() > 20
    embodied(cameras={"top": "left_wrist_0_rgb", "wrist": "base_0_rgb"})(folder)
    with pytest.raises(CheckpointError, match=r"for each view one of base_0_rgb, .* found left_"):
        load_checkpoint(folder)


def test_pi05_tells_the_state_in_its_prompt(lerobot_written: Written) -> None:
    checkpoint = load_checkpoint(lerobot_written("pi05"))
    spec = checkpoint.instruction
    assert (spec.before, spec.state_bins, spec.max_tokens) == ((1,), 256, 80)
    assert spec.steps == (TextStep.SPACES_FOR_UNDERSCORES, TextStep.ONE_LINE)
    assert "proprio" not in checkpoint.model.host_inputs
    assert isinstance(checkpoint.statistics.proprio, RangeScale) and not checkpoint.statistics.proprio.clips


PI0_EMBODIMENT = replace(
    EMBODIMENT,
    views=("base", "left", "right"),
    action=replace(EMBODIMENT.action, chunk=CHUNK),
)
PROCESSOR = {
    "image_processor": {
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "do_normalize": True,
        "do_rescale": True,
    },
    "state_mean": [1.0] * 5,
    "state_std": [2.0] * 5,
    "actions_mean": [0.5] * 4,
    "actions_std": [0.25] * ACTION,
}
"""Of which ours reads as many numbers as the robot has."""


def transformers_pi0(folder: Path, embodiment: Embodiment = PI0_EMBODIMENT) -> Path:
    """Write a tiny π0 of transformers' own class, what its processor is saved with, and a tokenizer."""
    pi0_oracle.save(pi0_oracle.reference(), folder)
    (folder / "processor_config.json").write_text(json.dumps(PROCESSOR))
    Tokenizer(models.WordLevel({"<pad>": 0, "<bos>": 2}, "<pad>")).save(str(folder / "tokenizer.json"))
    write_embodiment(embodiment, folder)
    return folder


def test_pi0_as_transformers_writes_it(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(transformers_pi0(tmp_path / "pi0"))
    assert checkpoint.model.image_size == (20, 20) and checkpoint.model.action_shape == (CHUNK, 4)
    assert checkpoint.instruction.before == (2,) and checkpoint.instruction.steps == ()
    state, action = checkpoint.statistics.proprio, checkpoint.statistics.action
    np.testing.assert_allclose(state.normalise(np.full(5, 5.0, np.float32)), np.full(5, 2.0), atol=1e-6)
    np.testing.assert_allclose(action.unnormalise(np.full(4, 2.0, np.float32)), np.full(4, 1.0))


def test_pi0_as_openpi_converts_it(tmp_path: Path) -> None:
    folder = transformers_pi0(tmp_path / "pi0")
    edit(
        folder, "config.json", lambda stored: (stored.pop("model_type"), stored.update(action_horizon=CHUNK))
    )
    edit(folder, "config.json", lambda stored: stored.pop("chunk_size"))
    with pytest.raises(CheckpointError, match=r"expected one assets/\*\*/norm_stats.json in .*, found 0"):
        load_checkpoint(folder)
    place = folder / "assets" / "my_robot"
    place.mkdir(parents=True)
    vector = {"mean": [1.0] * 32, "std": [2.0] * 32, "q01": [-1.0] * 32, "q99": [3.0] * 32}
    (place / "norm_stats.json").write_text(json.dumps({"norm_stats": {"state": vector, "actions": vector}}))
    checkpoint = load_checkpoint(folder)
    other = {"norm_stats": {"state": vector, "actions": {**vector, "std": [4.0] * 32}}}
    (folder / "assets" / "droid").mkdir()
    (folder / "assets/droid/norm_stats.json").write_text(json.dumps(other))
    with pytest.raises(
        CheckpointError, match=r"found 2 \(droid, my_robot\); say in .* statistics_key, which"
    ):
        load_checkpoint(folder)
    write_embodiment(replace(PI0_EMBODIMENT, statistics_key="droid"), folder)
    assert load_checkpoint(folder).statistics.action.physical_per_unit[0] == np.float32(4.000001)
    assert checkpoint.family == "pi0"
    assert checkpoint.instruction.steps == (TextStep.SPACES_FOR_UNDERSCORES, TextStep.ONE_LINE)
    np.testing.assert_allclose(
        checkpoint.statistics.action.unnormalise(np.full(4, 2.0, np.float32)), np.full(4, 5.000002)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"state_mean": [1.0] * 4},
            r"state_mean: expected at least 5 finite numbers, found \[1.0, 1.0, 1.0, 1.0\]",
        ),
        ({"actions_std": [-1.0] * 4}, "actions_std: expected at least"),
        ({"state_std": None}, "state_std: expected a list of float, found None"),
    ],
)
def test_statistics_of_the_processor_are_checked(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    folder = transformers_pi0(tmp_path / "pi0")
    edit(folder, "processor_config.json", lambda stored: stored.update(change))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_pictures_of_another_size_are_the_hosts_matter_for_transformers(tmp_path: Path) -> None:
    folder = transformers_pi0(tmp_path / "pi0", replace(PI0_EMBODIMENT, image_size=(48, 64)))
    with pytest.raises(CheckpointError, match=r"image_size: expected none, .* bring pictures to 20 x 20"):
        load_checkpoint(folder)


def test_a_tokenizer_without_bos_is_refused(tmp_path: Path) -> None:
    folder = transformers_pi0(tmp_path / "pi0")
    Tokenizer(models.WordLevel({"a": 0}, "a")).save(str(folder / "tokenizer.json"))
    with pytest.raises(
        CheckpointError, match=r"tokenizer.json: expected the token '<bos>', .* copy PaliGemma's"
    ):
        load_checkpoint(folder)


def test_what_a_tokenizer_puts_behind_a_text_is_refused() -> None:
    from tokenizers.processors import TemplateProcessing

    made = Tokenizer(models.WordLevel({"a": 0, "<s>": 1, "</s>": 2}, "a"))
    made.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    assert special_tokens_before(made) == (1,)
    made.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    with pytest.raises(CheckpointError, match=r"in front of a text only, found \[0, 2\] around \[0\]"):
        special_tokens_before(made)
