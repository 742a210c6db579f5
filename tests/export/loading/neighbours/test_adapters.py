"""Adapters; the published layouts of them are in the table of ``tests/export/layouts``."""

from __future__ import annotations

import json
from pathlib import Path

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.neighbours.adapters import OFT_ADAPTER, adapter


def said(folder: Path) -> str:
    return adapter(CheckpointFolder(folder)) or ""


def test_a_pickled_adapter_of_a_model_that_is_not_named(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.bin").write_bytes(b"not read")
    assert "what fine-tuning added to a model that it does not name" in said(tmp_path)
    assert "torch.load" not in said(tmp_path)  # nobody shall convert it


def test_weights_beside_an_adapter_may_have_it_already(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": 3}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"not read")
    assert "nothing says whether they have it already" in said(tmp_path)


def test_an_adapter_that_was_merged_is_a_record(tmp_path: Path) -> None:
    place = tmp_path / OFT_ADAPTER
    place.mkdir()
    (place / "adapter_config.json").write_text("{}")
    assert "--base_checkpoint openvla/openvla-7b" in said(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    assert adapter(CheckpointFolder(tmp_path)) is None
