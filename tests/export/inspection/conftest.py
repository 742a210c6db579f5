"""One tiny checkpoint of every family, made once a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.export.inspection.tiny_checkpoints import WRITERS, know_tiny_variants


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder of a family's checkpoint; do not change what is in it."""
    folders: dict[str, Path] = {}

    def give(family: str) -> Path:
        if family not in folders:
            folder = tmp_path_factory.mktemp("inspected") / family.replace(", ", "-")
            WRITERS[family](folder)
            folders[family] = folder
        return folders[family]

    return give


@pytest.fixture
def tiny_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of variants mean tiny models."""
    know_tiny_variants(monkeypatch)
