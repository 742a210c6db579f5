"""Weights reach the disk, or an error says why they do not."""

import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from saccade.export.loading.weight_file import write_weights
from saccade.proto.errors import FileError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    weights = {"a": torch.arange(6.0).reshape(2, 3)}
    write_weights(weights, tmp_path / "w.safetensors", {"step": "1"})
    assert torch.equal(load_file(tmp_path / "w.safetensors")["a"], weights["a"])


def test_a_disk_that_refuses_is_an_error_of_ours(tmp_path: Path) -> None:
    """A limit of file sizes stands in for a disk that is full; the library has an error of its own for both."""
    with pytest.raises(FileError, match=f"expected to write weights to {tmp_path / 'no'}"):
        write_weights({}, tmp_path / "no" / "w.safetensors", {})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, before[1]))
    try:
        with pytest.raises(FileError, match="make room"):
            write_weights({"a": torch.zeros(1 << 12)}, tmp_path / "w.safetensors", {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
