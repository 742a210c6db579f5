"""Readers are what the registry says, and a checkpoint finds the one that claims it."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from saccade.export.families import registry
from saccade.export.families.reader import ActingReader, AnsweringReader, Unit, stated_name
from saccade.export.families.registry import FAMILIES, family_reader, find_reader, known_families
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.errors import CheckpointError

ACTS = {"openvla", "openvla_oft", "pi0", "pi05", "smolvla"}


def folder_of(path: Path, **config: object) -> CheckpointFolder:
    (path / "config.json").write_text(json.dumps(config))
    return CheckpointFolder(path)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_name_is_its_reader_s(name: str) -> None:
    reader = family_reader(name)
    assert reader.name == name
    assert isinstance(reader, ActingReader if name in ACTS else AnsweringReader)
    assert (reader.unit is Unit.ANSWER) == (name not in ACTS)
    assert reader.usual.views >= 1 and reader.usual.text_tokens >= 1


@pytest.mark.parametrize(
    ("config", "files", "name"),
    [
        ({"model_type": "llava"}, (), "llava"),
        ({"type": "smolvla"}, (), "smolvla"),
        ({"model_type": "openvla"}, (), "openvla"),
        ({"model_type": "openvla"}, ("action_head--5_checkpoint.pt",), "openvla_oft"),
        ({"model_type": "openvla_oft"}, (), "openvla_oft"),
        ({"type": "pi05"}, (), "pi05"),
    ],
)
def test_a_checkpoint_finds_its_reader(
    tmp_path: Path, config: dict[str, object], files: tuple[str, ...], name: str
) -> None:
    for file in files:
        (tmp_path / file).touch()
    assert find_reader(folder_of(tmp_path, **config)).name == name


def test_no_two_readers_claim_one_checkpoint(tmp_path: Path) -> None:
    for name in FAMILIES:
        claims = [
            other for other in FAMILIES if family_reader(other).is_of(folder_of(tmp_path, model_type=name))
        ]
        assert claims == [name]


def test_what_nobody_claims_is_refused_with_every_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, model_type="gpt9")
    assert stated_name(folder) == "gpt9"
    with pytest.raises(CheckpointError, match=r"a family that is known here \(llava, .*\), found 'gpt9'"):
        find_reader(folder)


def test_a_name_that_is_taken_or_leads_nowhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def registered(**names: str) -> None:
        points = [EntryPoint(name, value, registry.ENTRY_POINTS) for name, value in names.items()]
        monkeypatch.setattr(registry, "entry_points", lambda group: points)

    registered(llava="elsewhere:READER")
    with pytest.raises(CheckpointError, match="expected each family once, found 'llava'"):
        known_families()
    registered(mine="saccade.no_such_module:READER")
    with pytest.raises(CheckpointError, match="which cannot be loaded"):
        family_reader("mine")
    registered(mine="saccade.export.families.llava.llava:READER")
    with pytest.raises(CheckpointError, match="AnsweringReader whose name is 'mine', found 'llava'"):
        family_reader("mine")


def test_a_unit_says_how_many_tokens_it_has() -> None:
    assert Unit.CONTROL_STEP.text(7) == "control step"
    assert (Unit.ACTION.text(7), Unit.ANSWER.text(1)) == ("action of 7 tokens", "answer of 1 token")
