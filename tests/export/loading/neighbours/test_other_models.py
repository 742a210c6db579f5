"""Models that nothing here runs, by name and by class."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saccade.export.families.registry import FAMILIES
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.neighbours.other_models import OTHERS, other_class, unknown_family


def folder_of(path: Path, **config: object) -> CheckpointFolder:
    (path / "config.json").write_text(json.dumps(config))
    return CheckpointFolder(path)


def test_what_is_run_here_is_no_other_model() -> None:
    assert not set(FAMILIES) & set(OTHERS)


@pytest.mark.parametrize(
    ("key", "name"), [("type", "act"), ("model_type", "qwen2_vl"), ("type", "never_heard_of")]
)
def test_a_name_is_right_and_is_not_blamed(tmp_path: Path, key: str, name: str) -> None:
    found = unknown_family(folder_of(tmp_path, **{key: name}), "a family that acts", ("pi0",))
    assert f"a family that acts (pi0), found {name!r} in config.json" in found
    assert OTHERS.get(name, "") in found and "correct" not in found and "convert" not in found


@pytest.mark.parametrize(
    ("architectures", "is_other"),
    [
        (["A"], False),
        (["A", "C"], False),
        (["C"], True),
        ([], False),
        (None, False),
        ("C", False),
        ([3], False),
    ],
)
def test_a_class_tells_what_a_model_type_does_not(
    tmp_path: Path, architectures: object, *, is_other: bool
) -> None:
    folder = folder_of(tmp_path, architectures=architectures)
    found = other_class(folder, "a", ("A", "B"))
    assert (found is not None and "expected A or B, the class of a, found C" in found) == is_other
    assert other_class(folder, "a", ()) is None
