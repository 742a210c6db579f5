"""Tiny checkpoints of lerobot's own classes with its processors, written once a run; an embodiment beside each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.export.families.control_steps import with_embodiment
from tests.export.families.lerobot_reference import use_sizes, write


@pytest.fixture(scope="session")
def lerobot_written_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write a policy's checkpoint when it is asked for the first time."""
    folders: dict[str, Path] = {}

    def folder(policy: str) -> Path:
        if policy not in folders:
            place = tmp_path_factory.mktemp("lerobot") / policy
            folders[policy] = with_embodiment(write(f"{policy}_control", place))
        return folders[policy]

    return folder


@pytest.fixture
def lerobot_written(
    lerobot_written_once: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """The same, with the sizes in our code that its file only names."""

    def folder(policy: str) -> Path:
        place = lerobot_written_once(policy)
        if (place / "dimensions.json").is_file():
            use_sizes(place, monkeypatch)
        return place

    return folder
