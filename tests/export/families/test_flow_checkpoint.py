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
from saccade.proto.errors import CheckpointError, SaccadeError
from saccade.proto.instruction_spec import TextStep
from saccade.proto.manifest import VectorSpec
from saccade.proto.scales import MeanStdScale, RangeScale
from saccade.proto.statistics import Statistics
from tests.export.families.control_steps import EMBODIMENT, read_steps
from tests.export.families.pi import test_pi0 as pi0_oracle
from tests.export.families.pi_scenes import ACTION, CHUNK

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
