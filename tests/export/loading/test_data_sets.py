"""Statistics of published robot models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.data_sets import DataSet, read_data_set
from saccade.proto.errors import CheckpointError

ACTION = {"q01": [-1.0, 0], "q99": [1, 2.0], "min": [-5.0, 0.0], "max": [5.0, 9.0], "mask": [True, False]}


def test_bounds_are_the_statistics_that_were_asked_for() -> None:
    data_set = DataSet("a", "x", {"action": ACTION, "proprio": {"min": [0.5], "max": [0.5]}})
    assert data_set.bounds("action", "q01", "q99") == ((-1.0, 0.0), (1.0, 2.0), (True, False))
    assert data_set.bounds("action", "min", "max") == ((-5.0, 0.0), (5.0, 9.0), (True, False))
    assert data_set.bounds("proprio", "min", "max") == ((0.5,), (0.5,), (True,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q01": None}, "q01: expected a list of float, found None"),
        ({"q01": [0.0]}, "expected q01, q99 and mask of one length, found 1, 2 and 2"),
        ({"q01": [], "q99": [], "mask": []}, "of one length, found 0, 0 and 0"),
        ({"mask": [1, 0]}, "mask: expected bool, found 1"),
        ({"q99": [-2.0, 2.0]}, "dimension 0: expected finite q01 <= q99, found -1.0 and -2.0"),
        ({"q99": [float("nan"), 2.0]}, "dimension 0: expected finite q01 <= q99, found -1.0 and nan"),
    ],
)
def test_broken_statistics_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        DataSet("a", "x", {"action": {**ACTION, **change}}).bounds("action", "q01", "q99")


def test_a_masked_dimension_may_have_anything() -> None:
    odd = {**ACTION, "q01": [-1.0, 7.0]}
    assert DataSet("a", "x", {"action": odd}).bounds("action", "q01", "q99").low == (-1.0, 7.0)


@pytest.mark.parametrize(
    ("stats", "key", "message"),
    [
        (None, None, r"expected statistics of at least one data set .* found none"),
        ({}, None, r"expected statistics of at least one data set"),
        ({"a": {}, "b": {}}, None, r"norm_stats: expected a choice \(statistics_key\) .* a, b, found none"),
        ({"a": {}, "b": {}}, "c", r"expected one of the data sets a, b, found 'c'"),
        ({"a": [1]}, "a", r"a: expected an object, found list"),
    ],
)
def test_a_missing_choice_is_named(tmp_path: Path, stats: object, key: str | None, message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"norm_stats": stats}))
    with pytest.raises(CheckpointError, match=message):
        read_data_set(CheckpointFolder(tmp_path), key)


def test_the_file_of_a_fine_tuned_checkpoint_wins(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"norm_stats": {"a": {}, "b": {}}}))
    (tmp_path / "dataset_statistics.json").write_text(json.dumps({"mine": {"action": ACTION}}))
    found = read_data_set(CheckpointFolder(tmp_path), None)
    assert (found.name, found.where) == ("mine", "dataset_statistics.json: mine")
