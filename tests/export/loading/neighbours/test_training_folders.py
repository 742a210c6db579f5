"""Folders without ``config.json``; the published layouts of them are in the table of ``tests/export/layouts``."""

from __future__ import annotations

from pathlib import Path

import pytest

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.neighbours.training_folders import training_folder


def said(folder: Path) -> str:
    return training_folder(CheckpointFolder(folder)) or ""


def test_a_bundle_was_exported_already(tmp_path: Path) -> None:
    (tmp_path / "graphs").mkdir()
    (tmp_path / "manifest.json").write_text("{}")
    assert "found a bundle" in said(tmp_path)


@pytest.mark.parametrize("metadata", ["", "{", "[]", '{"tree_metadata": 3}'])
def test_jax_whose_metadata_tell_nothing_may_be_converted(tmp_path: Path, metadata: str) -> None:
    params = tmp_path / "29999" / "params"
    params.mkdir(parents=True)
    (params / "_METADATA").write_text(metadata)
    for folder in (params, params.parent):
        assert "found a checkpoint of JAX (orbax: 29999/params); convert it" in said(folder)


def test_many_checkpoints_are_not_all_named(tmp_path: Path) -> None:
    for step in range(6):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}/config.json").write_text("{}")
    assert "checkpoint-0, checkpoint-1, checkpoint-2, checkpoint-3 and 2 more; give one" in said(tmp_path)
