"""Fields of configuration files: read with their kind, defaults logged, switches nobody knows refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from saccade.export.loading.json_fields import JsonFields, read_object
from saccade.proto.errors import CheckpointError


def fields(**values: object) -> JsonFields:
    return JsonFields(values, "config.json", {"eps": 1e-6, "kind": "silu", "window": 4096})


def test_a_field_beats_its_default_and_a_whole_number_is_a_float() -> None:
    assert fields(eps=1).take("eps", float) == 1.0
    assert isinstance(fields(eps=1).take("eps", float), float)
    assert fields(kind="gelu").take("kind", str) == "gelu"


def test_a_default_that_is_taken_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="saccade.export.loading.json_fields"):
        assert fields().take("eps", float) == 1e-6
        assert fields(kind=None).take("kind", str) == "silu"
    assert [record.getMessage() for record in caplog.records] == [
        "config.json: no 'eps', taken as 1e-06",
        "config.json: no 'kind', taken as 'silu'",
    ]


def test_null_says_more_than_a_missing_field() -> None:
    """``"sliding_window": null`` means none; a file without the field means the class default."""
    assert fields().knows("window") and not fields(window=None).knows("window")
    assert not fields().knows("unheard") and not fields().has("window")


@pytest.mark.parametrize(
    ("values", "name", "kind", "message"),
    [
        ({}, "heads", int, "config.json: expected 'heads', found none"),
        ({"heads": "4"}, "heads", int, "config.json: heads: expected int, found '4'"),
        ({"heads": True}, "heads", int, "config.json: heads: expected int, found True"),
        ({"heads": 4.0}, "heads", int, "config.json: heads: expected int, found 4.0"),
        ({"tied": 1}, "tied", bool, "config.json: tied: expected bool, found 1"),
        ({"eps": "x"}, "eps", float, "config.json: eps: expected float, found 'x'"),
    ],
)
def test_a_field_of_another_kind_is_refused(
    values: dict[str, object], name: str, kind: type[int], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        fields(**values).take(name, kind)


def test_lists_and_objects_are_checked_inside() -> None:
    assert fields(mean=[0, 0.5]).items("mean", float) == (0.0, 0.5)
    with pytest.raises(CheckpointError, match=r"config.json: mean: expected float, found 'x'"):
        fields(mean=["x"]).items("mean", float)
    with pytest.raises(CheckpointError, match=r"config.json: mean: expected a list of float, found 1"):
        fields(mean=1).items("mean", float)
    with pytest.raises(CheckpointError, match=r"config.json: text_config: heads: expected int"):
        fields(text_config={"heads": "4"}).child("text_config").take("heads", int)
    with pytest.raises(CheckpointError, match=r"config.json: expected the object 'text_config', found none"):
        fields().child("text_config")
    with pytest.raises(CheckpointError, match=r"config.json: text_config: expected an object, found list"):
        fields(text_config=[1]).child("text_config")


def test_a_switch_that_changes_the_model_is_refused() -> None:
    fields().expect("act", ("gelu",))
    fields(act="gelu").expect("act", ("gelu",))
    with pytest.raises(CheckpointError, match=r"config.json: act: expected 'gelu' or None, found 'relu'"):
        fields(act="relu").expect("act", ("gelu", None))


@pytest.mark.parametrize(
    ("text", "message"), [("[1]", "expected a JSON object, found list"), ("{", "expected JSON")]
)
def test_a_file_that_is_no_object_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read_object(tmp_path, "config.json")
    with pytest.raises(CheckpointError, match=r"expected other.json in .*, found none"):
        read_object(tmp_path, "other.json")
