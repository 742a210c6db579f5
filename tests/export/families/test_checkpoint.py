"""Checkpoints are read strictly: what is wrong is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from saccade.export.families.openvla_oft.model import key_rules
from saccade.export.families.registry import load_checkpoint
from saccade.proto.errors import CheckpointError, StatisticsError
from tests.export.samples import CONFIG, tiny_model, write_tiny_checkpoint

KEY = "language_model.model.layers.1.mlp.up_proj.weight"
Weights = dict[str, Tensor]


@pytest.fixture
def path(checkpoint_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint_path, tmp_path / "checkpoint"))


def _rewrite(path: Path, change: Callable[[Weights], object]) -> None:
    weights = load_file(path / "model.safetensors")
    change(weights)
    save_file(weights, path / "model.safetensors")


def test_what_was_saved_is_read_back(checkpoint_path: Path) -> None:
    checkpoint, model = load_checkpoint(checkpoint_path), tiny_model()
    assert checkpoint.model.config == CONFIG
    assert checkpoint.embodiment.views == ("scene", "wrist")
    for key, value in model.state_dict().items():
        assert torch.equal(checkpoint.model.state_dict()[key], value), key


def test_shards_with_an_index(path: Path) -> None:
    weights = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    halves = {
        "a.safetensors": dict(list(weights.items())[::2]),
        "b.safetensors": dict(list(weights.items())[1::2]),
    }
    for name, half in halves.items():
        save_file({f"module.{key}": value.bfloat16() for key, value in half.items()}, path / name)
    index = {"weight_map": {f"module.{key}": name for name, half in halves.items() for key in half}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    loaded = load_checkpoint(path).model
    assert loaded.state_dict()[KEY].dtype == torch.float32
    torch.testing.assert_close(loaded.state_dict()[KEY], weights[KEY], atol=1e-2, rtol=1e-2)
    (path / "b.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"index.json: expected shards beside it, found missing: b\.safe"
    ):
        load_checkpoint(path)


def test_unused_weights_of_the_published_layout_are_passed_over(path: Path) -> None:
    extra = {
        "language_model.lm_head.weight": torch.zeros(11, 16),
        "language_model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4),
        "vision_backbone.featurizer.attn_pool.q.weight": torch.zeros(2),
    }
    _rewrite(path, lambda weights: weights.update(extra))
    load_checkpoint(path)


def test_names_are_brought_to_one_form() -> None:
    stored = "module.vision_backbone.featurizer.blocks.0.ls1.gamma"
    rules = key_rules(CONFIG)
    assert rules.ours(stored) == ("vision_backbone.featurizer.blocks.0.ls1.scale_factor", 0)
    assert not rules.is_unused("vision_backbone.featurizer.blocks.0.norm1.weight")
    assert not rules.is_unused("vision_backbone.featurizer.blocks.9.norm1.weight")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(KEY), f"found missing: {KEY} and left over: none"),
        (lambda w: w.update(stray=torch.zeros(1)), "found missing: none and left over: stray"),
        (
            lambda w: w.update({KEY: torch.zeros(3, 16)}),
            rf"wrong: {KEY} \(expected \[24, 16\], found \[3, 16\]\)",
        ),
        (lambda w: w[KEY].fill_(float("nan")), f"expected finite weights, found NaN or infinity in {KEY}"),
        (
            lambda w: w.update({f"module.{KEY}": w[KEY].clone()}),
            rf"found '{KEY}' as '{KEY}' and as 'module\.{KEY}'",
        ),
    ],
)
def test_wrong_weights_are_named(path: Path, change: Callable[[Weights], object], message: str) -> None:
    _rewrite(path, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize("size", [0, 4, 100, -100])
def test_a_truncated_file_is_found(path: Path, size: int) -> None:
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: expected a whole safetensors file"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pytorch_model.bin", r"found pytorch_model\.bin: a pickle can run code .* Convert it"),
        ("action_head--5000_checkpoint.pt", r"found neither; copy the weights of the published checkpoint"),
    ],
)
def test_a_pickle_is_never_opened(path: Path, name: str, message: str) -> None:
    """Weights are asked for as safetensors; a head in its published file is no reason to convert anything."""
    (path / "model.safetensors").rename(path / name)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "expected config.json in checkpoint/, found none"),
        ("embodiment.json", "expected embodiment.json .* write down views, units"),
        ("model.safetensors", "expected model.safetensors or model.safetensors.index.json"),
        ("tokenizer.json", "expected tokenizer.json .* write it with"),
        ("statistics.json", "expected statistics.json .* copy the data set statistics"),
    ],
)
def test_a_missing_file_is_named(path: Path, name: str, message: str) -> None:
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["config.json", "embodiment.json", "tokenizer.json", "statistics.json"])
def test_a_file_that_is_not_json_is_named(path: Path, name: str) -> None:
    (path / name).write_text("{")
    with pytest.raises((CheckpointError, StatisticsError), match=name):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("embodiment.json", '"scene",', "", "embodiment.json: views: expected 2 as in config.json, found 1"),
        ("embodiment.json", '"name"', '"nmae"', r"embodiment.json: \$.nmae: unknown key"),
        (
            "embodiment.json",
            '"statistics_key": "table"',
            '"statistics_key": "kitchen"',
            "data set 'kitchen', found 'table'",
        ),
        (
            "statistics.json",
            '"q99"',
            '"q98"',
            r"statistics.json: table.action.q99: expected a list of 3 of type float, found None",
        ),
        (
            "config.json",
            '"vocab_size": 11',
            '"vocab_size": 10',
            "tokenizer.json: expected token ids below 10",
        ),
    ],
)
def test_files_that_disagree_are_named(path: Path, name: str, old: str, new: str, message: str) -> None:
    text = (path / name).read_text()
    assert old in text
    (path / name).write_text(text.replace(old, new))
    with pytest.raises((CheckpointError, StatisticsError), match=message):
        load_checkpoint(path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a checkpoint folder, found none"):
        load_checkpoint(tmp_path / "nowhere")


def test_saving_refuses_an_embodiment_of_another_model(tmp_path: Path) -> None:
    from dataclasses import replace

    from saccade.export.families.openvla_oft.model import OpenVlaOft

    with pytest.raises(CheckpointError, match=r"views: expected 3 as in config\.json, found 2"):
        write_tiny_checkpoint(tmp_path / "c", OpenVlaOft(replace(CONFIG, views=3)))
