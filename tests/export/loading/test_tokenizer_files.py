"""A tokenizer is found where it lies; where it is not, the message says whose to copy, or how to convert one."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from saccade.export.families.checkpoint import check_tokenizer
from saccade.export.loading.chat_template import render_question, special_tokens
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.tokenizer_files import find, missing
from saccade.proto.errors import CheckpointError


def write(place: Path, word: str = "a") -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    Tokenizer(models.WordLevel({word: 0}, word)).save(str(place))
    return place


def touch(*places: Path) -> None:
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("{}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    return made


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer/tokenizer.json"])
def test_it_lies_by_the_weights_or_in_a_folder_of_its_own(folder: Path, name: str) -> None:
    place = write(folder / name)
    touch(folder / "vocab.json", folder / "merges.txt")
    assert find(folder) == place
    assert CheckpointFolder(folder).tokenizer.get_vocab() == {"a": 0}


def test_the_one_by_the_weights_comes_first(folder: Path) -> None:
    write(folder / "tokenizer/tokenizer.json", "other")
    assert find(folder) == folder / "tokenizer/tokenizer.json"
    write(folder / "tokenizer.json")
    assert find(folder) == folder / "tokenizer.json"


@pytest.mark.parametrize("given", ["base", "base/tokenizer", "base/tokenizer/tokenizer.json"])
def test_a_given_one_comes_before_the_checkpoints(folder: Path, tmp_path: Path, given: str) -> None:
    write(folder / "tokenizer.json", "own")
    write(tmp_path / "base/tokenizer/tokenizer.json", "given")
    opened = CheckpointFolder(folder, tmp_path / given)
    assert opened.tokenizer.get_vocab() == {"given": 0}
    assert opened.tokenizer_path == tmp_path / "base/tokenizer/tokenizer.json"


def test_a_given_one_that_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    write(folder / "tokenizer.json")
    with pytest.raises(
        CheckpointError, match=r"--tokenizer: expected a tokenizer\.json or a folder with one, found no"
    ):
        _ = CheckpointFolder(folder, tmp_path / "nowhere").tokenizer  # fmt: skip
    with pytest.raises(CheckpointError, match=r"expected tokenizer\.json in .*, found none; write it with"):
        _ = CheckpointFolder(folder, folder.parent).tokenizer
    (tmp_path / "my.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"my\.json: expected a tokenizer file, found: "):
        _ = CheckpointFolder(folder, tmp_path / "my.json").tokenizer


SLOW = {
    "Llama": ("tokenizer.model",),
    "T5": ("spiece.model",),
    "GPT-2": ("vocab.json", "merges.txt"),
}


@pytest.mark.parametrize("place", ["", "tokenizer"])
@pytest.mark.parametrize("names", SLOW.values(), ids=SLOW)
def test_a_slow_one_is_to_be_converted(folder: Path, names: Sequence[str], place: str) -> None:
    touch(*(folder / place / name for name in names))
    with pytest.raises(CheckpointError, match="found a slow tokenizer only") as caught:
        _ = CheckpointFolder(folder).tokenizer
    message = caught.value.message
    assert ", ".join(names) in message
    assert (
        f'from_pretrained("{folder / place}", use_fast=True).save_pretrained("{folder / "tokenizer"}")'
        in message
    )
    if not place:
        assert missing(folder / names[0]) == message, "whoever gives the file itself is told the same"


def test_half_of_a_slow_one_is_none(folder: Path) -> None:
    touch(folder / "vocab.json")
    assert "found none" in missing(folder)


def test_the_command_converts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the message says, word for word, makes a tokenizer that is found."""
    folder = tmp_path / "a 'model'"
    folder.mkdir()
    letters = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    (folder / "vocab.json").write_text(json.dumps({**letters, "ab": len(letters)}))
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    program, option, code = shlex.split(missing(folder).split("installed: ")[1])
    assert (program, option) == ("python", "-c")
    monkeypatch.setattr(sys, "argv", [program])
    exec(code, {})  # noqa: S102 - our own message
    assert CheckpointFolder(folder).tokenizer.encode("ab").ids == [len(letters)]


def preprocessor(name: Any) -> Callable[[Path], object]:
    steps = [
        {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
        {"registry_name": "tokenizer_processor", "config": {"max_length": 48, "tokenizer_name": name}},
    ]
    return lambda folder: (folder / "policy_preprocessor.json").write_text(json.dumps({"steps": steps}))


def config(**fields: object) -> Callable[[Path], object]:
    return lambda folder: (folder / "config.json").write_text(json.dumps(fields))


NAMED: dict[str, tuple[Callable[[Path], object], str]] = {
    "lerobot to 0.6.1": (
        preprocessor("google/paligemma-3b-pt-224"),
        r"copy tokenizer\.json of google/paligemma-3b-pt-224 \(policy_preprocessor\.json names it\): "
        r"hf download google/paligemma-3b-pt-224 tokenizer\.json --local-dir '?/.*model'?; or .* --tokenizer PATH",
    ),
    "a folder of another machine": (
        preprocessor("/models/paligemma"),
        r"copy tokenizer\.json of /models/paligemma \(policy_preprocessor\.json names it\); or say",
    ),
    "SmolVLA's backbone": (
        config(vlm_model_name="HuggingFaceTB/SmolVLM2-500M-Video-Instruct"),
        r"copy tokenizer\.json of HuggingFaceTB/SmolVLM2-500M-Video-Instruct \(config\.json: vlm_model_name\)",
    ),
    "nothing, of a family that has one": (config(), r"of google/paligemma-3b-pt-224 \(as the family is published\)"),
    "a step without a name": (preprocessor(None), r"of google/paligemma-3b-pt-224 \(as the family is published\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMED)
def test_the_message_says_whose_to_copy(folder: Path, case: str) -> None:
    spoil, message = NAMED[case]
    spoil(folder)
    with pytest.raises(
        CheckpointError, match=r"expected tokenizer\.json in model/ or model/tokenizer/, found none"
    ):
        _ = CheckpointFolder(folder).tokenizer  # fmt: skip
    with pytest.raises(CheckpointError, match=message):
        check_tokenizer(CheckpointFolder(folder), 9, published="google/paligemma-3b-pt-224")


def test_padding_and_truncation_are_not_the_tokenizers(folder: Path) -> None:
    """lerobot saves a tokenizer after it padded prompts with it; the file then pads every text."""
    saved = Tokenizer(models.WordLevel({"a": 0, "b": 1}, "a"))
    saved.pre_tokenizer = pre_tokenizers.Whitespace()
    saved.enable_padding(length=4)
    saved.enable_truncation(1)
    saved.save(str(folder / "tokenizer.json"))
    assert CheckpointFolder(folder).tokenizer.encode("b b b").ids == [1, 1, 1]


def test_what_goes_with_a_tokenizer_is_found_beside_it(folder: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    write(base / "tokenizer.json")
    settings = {"bos_token": "<s>", "chat_template": "{{ bos_token }}{{ messages[0]['role'] }}"}
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    opened = CheckpointFolder(folder, base)
    assert special_tokens(opened) == {"bos_token": "<s>", "eos_token": ""}
    assert render_question(opened, 1, "image", "why?") == "<s>user"
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "the checkpoint's"}))
    assert render_question(opened, 1, "image", "why?") == "the checkpoint's"
    shutil.rmtree(base)
    assert special_tokens(CheckpointFolder(folder)) == {"bos_token": "", "eos_token": ""}
