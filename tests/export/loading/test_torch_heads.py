"""Heads in ``.pt`` files: tensors are read, code is not run."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.torch_heads import HeadedWeights, choose_step, head_steps, read_head
from saccade.proto.errors import CheckpointError
from tests.export.loading.payload import Payload


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused_and_does_not_run_it(tmp_path: Path, *, zipped: bool) -> None:
    marker, file = tmp_path / "marker", tmp_path / "action_head--1_checkpoint.pt"
    content = {"fc1.weight": torch.zeros(2), "more": Payload(marker)}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"action_head--1_checkpoint\.pt: expected a file of tensors"):
        read_head(file)
    assert not marker.exists()
    torch.load(file, weights_only=False)
    assert marker.read_text() == "code ran"  # the file was armed


def test_a_data_parallel_prefix_is_dropped(tmp_path: Path) -> None:
    weights = {"fc1.weight": torch.randn(2, 3).bfloat16(), "fc1.bias": torch.randn(2)}
    stored = OrderedDict((f"module.{name}", weight) for name, weight in weights.items())
    torch.save(stored, tmp_path / "head.pt")
    found = read_head(tmp_path / "head.pt")
    assert list(found) == list(weights)
    assert all(torch.equal(found[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(2), "expected names and tensors, found Tensor"),
        ({"step": 5}, "expected names and dense tensors, found 'step': int"),
        ({1: torch.zeros(1)}, "expected names and dense tensors, found 1: Tensor"),
        ({"a": torch.eye(2).to_sparse()}, "expected names and dense tensors, found 'a': Tensor"),
        ({"a": torch.zeros(1), "module.a": torch.zeros(1)}, "expected each weight once, found 'a' twice"),
    ],
)
def test_a_file_of_anything_else_is_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "head.pt")
    with pytest.raises(CheckpointError, match=rf"head\.pt: {message}"):
        read_head(tmp_path / "head.pt")


@pytest.mark.parametrize("size", [0, 3, 200, -50])
def test_a_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    file = tmp_path / "head.pt"
    torch.save({"a": torch.zeros(64)}, file)
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"head\.pt: expected a file of tensors and nothing else"):
        read_head(file)


def test_steps_are_found_and_a_choice_among_several_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected action_head--<step>_checkpoint\.pt .* found none"):
        choose_step(CheckpointFolder(tmp_path), "action_head", None)
    for name in (
        "action_head--5000",
        "noisy_action_head--1",
        "action_head--1_checkpoint.pt.old",
        "action_head",
    ):
        (tmp_path / (name if name.endswith("old") else f"{name}_checkpoint.pt")).touch()
    assert choose_step(CheckpointFolder(tmp_path), "action_head", None) == "5000"
    (tmp_path / "action_head--latest_checkpoint.pt").touch()
    assert list(head_steps(CheckpointFolder(tmp_path), "action_head")) == ["5000", "latest"]
    with pytest.raises(CheckpointError, match="found steps 5000, latest; choose one"):
        choose_step(CheckpointFolder(tmp_path), "action_head", None)
    assert choose_step(CheckpointFolder(tmp_path), "action_head", "latest") == "latest"
    with pytest.raises(CheckpointError, match="action_head: expected a step of 5000, latest, found '7'"):
        choose_step(CheckpointFolder(tmp_path), "action_head", "7")


def test_heads_and_safetensors_are_one(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2, 3)}, tmp_path / "model.safetensors")
    weights = HeadedWeights(CheckpointFolder(tmp_path), {"head.b": torch.zeros(4)})
    assert (list(weights), len(weights)) == (["a", "head.b"], 2)
    assert (weights.shape("a"), weights.shape("head.b")) == ((2, 3), (4,))
    assert torch.equal(weights.read("a"), torch.ones(2, 3)) and torch.equal(
        weights.read("head.b"), torch.zeros(4)
    )
    with pytest.raises(CheckpointError, match="expected each weight once, found 'a' in two files"):
        HeadedWeights(CheckpointFolder(tmp_path), {"a": torch.zeros(1)})
