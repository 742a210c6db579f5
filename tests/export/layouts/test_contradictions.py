"""What a file beside the weights says otherwise than the rest is refused aloud: nothing of it is passed over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from saccade.export.families.deployment import Deployment
from saccade.export.families.prompts import read_prompted
from saccade.export.families.registry import load_checkpoint
from saccade.proto.errors import CheckpointError
from tests.export.layouts import answering, flow
from tests.export.layouts.folders import Bases, edit, point_to_lfs, remove, write_json
from tests.export.layouts.table import WRITERS

PRE = "policy_preprocessor.json"
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bases]:
    with pytest.MonkeyPatch.context() as patch:
        flow.know_tiny_variants(patch)
        answering.know_tiny_tower(patch)
        yield Bases(tmp_path_factory.mktemp("bases"), WRITERS)


def robot(**changes: Any) -> Change:
    return lambda folder: edit(folder, "embodiment.json", **changes)


def step(number: int, place: str, **changes: Any) -> Change:
    """Change a step of lerobot's preprocessor: fields of the step, or of its settings."""

    def change(folder: Path) -> None:
        stored = json.loads((folder / PRE).read_text())
        entry = stored["steps"][number]
        (entry[place] if place else entry).update(changes)
        write_json(folder, PRE, stored)

    return change


def shaped(*shape: int) -> Change:
    """Give every camera of a lerobot policy another shape."""

    def change(folder: Path) -> None:
        inputs = json.loads((folder / "config.json").read_text())["input_features"]
        for name in inputs:
            if inputs[name]["type"] == "VISUAL":
                inputs[name]["shape"] = list(shape)
        edit(folder, input_features=inputs)

    return change


def processed(**changes: Any) -> Change:
    """Change the image processor of transformers' π0."""

    def change(folder: Path) -> None:
        stored = json.loads((folder / "processor_config.json").read_text())
        stored["image_processor"] |= changes
        write_json(folder, "processor_config.json", stored)

    return change


def of_openpi(change: Change) -> Change:
    def both(folder: Path) -> None:
        flow.LAYOUTS["π0 of openpi's conversion"].change(folder)
        change(folder)

    return both


ACTING: dict[str, tuple[str, Change, str]] = {
    "a view twice": ("oft libero", robot(views=["a", "a"]), "views: expected each name once, found a, a"),
    "channels last": ("smolvla", shaped(480, 640, 3), r"of 3 channels, found \[480, 640, 3\]"),
    "depth": ("smolvla", shaped(1, 480, 640), r"of 3 channels, found \[1, 480, 640\]"),
    "a state that is not normalised": (
        "smolvla",
        step(5, "config", normalize_observation_keys=["observation.images.camera1"]),
        "normalize_observation_keys: expected observation.state among them",
    ),
    "statistics as a pointer": (
        "smolvla",
        lambda folder: point_to_lfs(folder, "policy_preprocessor_*.safetensors"),
        "found a pointer of Git LFS to it",
    ),
    "π0 without a resolution": (
        "lerobot pi0",
        lambda folder: edit(folder, image_resolution=[]),
        r"image_resolution: expected height and width alike, found \[\]",
    ),
    "π0's pixels in another range": ("transformers pi0", processed(rescale_factor=1.0), "rescale_factor"),
    "π0's pictures cropped": ("transformers pi0", processed(do_center_crop=True), "do_center_crop"),
    "π0's pictures padded": ("transformers pi0", processed(do_pad=True), "do_pad: expected False"),
    "π0's pictures larger than its tower": (
        "transformers pi0",
        processed(size={"height": 20, "width": 24}),
        "size: width: expected 20, found 24",
    ),
    "openpi's cameras the other way round": (
        "lerobot pi0",
        of_openpi(robot(views=["left_wrist_0_rgb", "base_0_rgb"])),
        "cameras: expected .*, in this order, found left_wrist_0_rgb, base_0_rgb",
    ),
    "openpi's camera twice": (
        "lerobot pi0",
        of_openpi(robot(views=["front", "base_0_rgb"], cameras={"front": "base_0_rgb"})),
        "cameras: expected .*, in this order, found base_0_rgb, base_0_rgb",
    ),
}


@pytest.mark.parametrize("name", ACTING)
def test_a_contradiction_is_said(bases: Bases, tmp_path: Path, name: str) -> None:
    base, change, message = ACTING[name]
    folder = bases.copy(base, tmp_path / "FOLDER")
    change(folder)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder, mapped=True)


def test_some_of_openpis_names_may_be_the_robots(bases: Bases, tmp_path: Path) -> None:
    folder = bases.copy("lerobot pi0", tmp_path / "FOLDER")
    of_openpi(robot(views=["front", "left_wrist_0_rgb"], cameras={"front": "base_0_rgb"}))(folder)
    assert load_checkpoint(folder, mapped=True).embodiment.views == ("front", "left_wrist_0_rgb")


def test_a_merged_adapter_leaves_its_switch_behind(bases: Bases, tmp_path: Path) -> None:
    """An adapter itself is told by its files or by the names of its weights."""
    folder = bases.copy("smolvla", tmp_path / "FOLDER")
    edit(folder, use_peft=True)
    assert load_checkpoint(folder, mapped=True).family == "smolvla"


def test_a_step_without_a_name_is_passed_over_aloud(
    bases: Bases, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = bases.copy("smolvla", tmp_path / "FOLDER")
    step(4, "", registry_name={"a": None})(folder)
    load_checkpoint(folder, mapped=True)
    assert "steps that nothing here does" in caplog.text


def without_square(folder: Path) -> None:
    edit(folder, "preprocessor_config.json", size={"longest_edge": 20})


def listed(folder: Path) -> None:
    edit(folder, "preprocessor_config.json", resample=[3])


def nested(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)


def adapter_with_projector(folder: Path) -> None:
    remove(folder, "*.safetensors*")
    write_json(folder, "adapter_config.json", {"base_model_name_or_path": "liuhaotian/llava-v1.5-7b"})
    for name in ("adapter_model.bin", "non_lora_trainables.bin"):
        (folder / name).write_bytes(b"not read")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_square, "size: expected 'height', found none"),
        (listed, r"resample: expected .*, found \[3\]"),
        (nested, "config.json: expected JSON, found: maximum recursion depth"),
        (
            adapter_with_projector,
            r"found an adapter alone .*weights in non_lora_trainables.bin into the model too",
        ),
    ],
)
def test_what_would_have_been_a_traceback_or_wrong_advice_is_an_error(
    bases: Bases, tmp_path: Path, change: Change, message: str
) -> None:
    folder = bases.copy("llava", tmp_path / "FOLDER")
    change(folder)
    with pytest.raises(CheckpointError, match=message):
        read_prompted(folder, Deployment())


def test_the_language_models_settings_count_where_nothing_else_says_them(
    bases: Bases, tmp_path: Path
) -> None:
    folder = bases.copy("llava", tmp_path / "FOLDER")
    remove(folder, "generation_config.json")
    text = json.loads((folder / "config.json").read_text())["text_config"]
    edit(folder, text_config={**text, "repetition_penalty": 1.3, "eos_token_id": 2})
    assert read_prompted(folder, Deployment()).choice.repetition_penalty == 1.3
    edit(folder, repetition_penalty=1.1)
    assert read_prompted(folder, Deployment()).choice.repetition_penalty == 1.1


@pytest.mark.parametrize("sizes", [{"vocab_size": -1}, {"head_dim": 10**30}, {"intermediate_size": -4}])
def test_sizes_that_no_model_has_are_an_error(bases: Bases, tmp_path: Path, sizes: dict[str, int]) -> None:
    folder = bases.copy("llava", tmp_path / "FOLDER")
    text = json.loads((folder / "config.json").read_text())["text_config"]
    edit(folder, text_config={**text, **sizes})
    with pytest.raises(CheckpointError, match="expected"):
        read_prompted(folder, Deployment())


@pytest.mark.parametrize("base", ["smolvla", "lerobot pi0"])
def test_a_prompt_ends_as_the_preprocessor_has_it(bases: Bases, tmp_path: Path, base: str) -> None:
    folder = bases.copy(base, tmp_path / "FOLDER")
    assert load_checkpoint(folder, mapped=True).instruction.template == "{instruction}\n"
    stored = json.loads((folder / PRE).read_text())
    stored["steps"] = [entry for entry in stored["steps"] if "new_line" not in entry["registry_name"]]
    write_json(folder, PRE, stored)
    assert load_checkpoint(folder, mapped=True).instruction.template == "{instruction}"
