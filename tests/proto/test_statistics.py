# ruff: noqa: E501 - tables of cases, one a line
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade.proto.errors import StatisticsError
from saccade.proto.statistics import Statistics, tell_never_varied

GOOD = {
    "action": {"q01": [-2, 0], "q99": [2.0, 1.0], "mask": [True, False]},
    "proprio": {"q01": [0.0], "q99": [0.0]},
}


def read(tmp_path: Path, value: Any, key: str = "tiny") -> Statistics:
    path = tmp_path / "statistics.json"
    path.write_text(json.dumps(value))
    return Statistics.read(path, key, action_dim=2, proprio_dim=1)


def test_percentiles_map_to_one_and_masked_dimensions_pass(tmp_path: Path) -> None:
    scale = read(tmp_path, {"tiny": {**GOOD, "num_transitions": 3}}).action
    normalised = np.array([[-1, 0.3], [0, 7], [1, -7]], np.float32)
    physical = np.array([[-2, 0.3], [0, 7], [2, -7]], np.float32)
    np.testing.assert_allclose(scale.unnormalise(normalised), physical, atol=1e-6)
    np.testing.assert_allclose(scale.normalise(physical), np.clip(normalised, -1, 1), atol=1e-6)
    assert scale.unnormalise(normalised).dtype == np.float32


def test_text_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "statistics.json").write_text("{")
    with pytest.raises(StatisticsError, match=r"statistics\.json: expected JSON"):
        Statistics.read(tmp_path / "statistics.json", "tiny", action_dim=2, proprio_dim=1)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    statistics = read(tmp_path, {"tiny": GOOD})
    again = read(tmp_path, statistics.to_json("tiny"))
    for one, other in ((statistics.action, again.action), (statistics.proprio, again.proprio)):
        assert one.to_json() == other.to_json()


def test_a_unit_is_half_the_span(tmp_path: Path) -> None:
    np.testing.assert_allclose(read(tmp_path, {"tiny": GOOD}).action.physical_per_unit, [2, 1])


def test_values_beyond_one_are_clipped_on_the_way_in_masked_ones_too(tmp_path: Path) -> None:
    scale = read(tmp_path, {"tiny": GOOD}).action
    np.testing.assert_allclose(scale.normalise(np.array([9, 9], np.float32)), [1, 1])


def test_a_dimension_that_never_varied_stays_finite(tmp_path: Path) -> None:
    scale = read(tmp_path, {"tiny": GOOD}).proprio
    assert np.isfinite(scale.normalise(np.array([0.5], np.float32))).all()


def test_dimensions_that_never_varied_are_named(tmp_path: Path) -> None:
    names: dict[str, Any] = {"proprio": ("x",), "action": ("dx", "gripper")}
    statistics = read(tmp_path, {"tiny": GOOD})
    assert statistics.never_varied(**names) == {"proprio": ("x",), "action": ()}
    vector = {"scheme": "mean_std", "mean": [1, -2.0], "std": [0.5, 0.0]}
    found = read(tmp_path, {"tiny": {**GOOD, "action": vector}}).never_varied(**names)
    assert tell_never_varied(found) == "proprio x; action gripper"
    vector = {"scheme": "range", "low": [0, 0], "high": [1, 1]}
    still = {"q01": [0.0], "q99": [1.0]}
    assert (
        tell_never_varied(
            read(tmp_path, {"tiny": {"action": vector, "proprio": still}}).never_varied(**names)
        )
        == ""
    )


def test_mean_and_deviation_are_not_clipped(tmp_path: Path) -> None:
    vector = {"scheme": "mean_std", "mean": [1, -2.0], "std": [0.5, 4.0], "eps": 1e-8}
    scale = read(tmp_path, {"tiny": {**GOOD, "action": vector}}).action
    np.testing.assert_allclose(scale.normalise(np.array([6, -42], np.float32)), [10, -10], rtol=1e-6)
    np.testing.assert_allclose(scale.unnormalise(np.array([10, -10], np.float32)), [6, -42])
    np.testing.assert_allclose(scale.physical_per_unit, [0.5, 4.0])
    np.testing.assert_allclose(scale.bounds, [[0, -10], [2, 6]])
    assert scale.to_json() == vector


def test_a_range_may_be_left_unclipped(tmp_path: Path) -> None:
    vector = {"scheme": "range", "low": [-2.0, 3.0], "high": [2.0, 3.0], "eps": 0.5}
    scale = read(tmp_path, {"tiny": {**GOOD, "action": vector}}).action
    np.testing.assert_allclose(scale.normalise(np.array([4, 4], np.float32)), [2, 3])
    np.testing.assert_allclose(scale.unnormalise(np.array([2, 3], np.float32)), [4, 4])
    assert scale.to_json() == vector


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"other": GOOD}, "expected statistics of data set 'tiny', found 'other'"),
        ([], "expected statistics of data set 'tiny'"),
        ({"tiny": {"action": GOOD["action"]}}, r"tiny\.proprio: expected an object with q01 and q99"),
        ({"tiny": {**GOOD, "proprio": {"q01": [0], "q99": [1, 2]}}}, r"tiny\.proprio\.q99: expected a list of 1"),
        ({"tiny": {**GOOD, "proprio": {"q01": ["0"], "q99": [1]}}}, r"proprio\.q01: expected a list of 1 of type float"),
        ({"tiny": {**GOOD, "proprio": {"q01": [2], "q99": [1]}}}, "expected finite q99 >= q01"),
        ({"tiny": {**GOOD, "proprio": {"q01": [0], "q99": [1e39]}}}, "expected finite q99 >= q01"),
        ({"tiny": {**GOOD, "proprio": {"q01": [0], "q99": [10**400]}}}, "expected numbers that fit a float"),
        ({"tiny": {**GOOD, "proprio": {"q01": [0], "q99": [1], "mask": [1]}}}, "of type bool"),
        ({"tiny": {**GOOD, "proprio": {"scheme": "z"}}}, "scheme: expected 'mean_std' or 'range', found 'z'"),
        ({"tiny": {**GOOD, "proprio": {"scheme": "mean_std", "mean": [0]}}}, r"proprio\.std: expected a list of 1"),
        ({"tiny": {**GOOD, "proprio": {"scheme": "mean_std", "mean": [0], "std": [-1]}}}, "expected finite mean and std >= 0"),
        ({"tiny": {**GOOD, "proprio": {"scheme": "mean_std", "mean": [0], "std": [0], "eps": 0.0}}}, "expected std above 0 where eps is 0"),
        ({"tiny": {**GOOD, "proprio": {"scheme": "range", "low": [1], "high": [1], "eps": 0.0}}}, "expected high above low where eps is 0"),
        ({"tiny": {**GOOD, "proprio": {"scheme": "range", "low": [1], "high": [0]}}}, "expected finite high >= low"),
        ({"tiny": {**GOOD, "proprio": {"scheme": "range", "low": [0], "high": [1], "eps": "1"}}}, "eps: expected a number"),
    ],
)  # fmt: skip
def test_broken_statistics_are_named(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(StatisticsError, match=message):
        read(tmp_path, value)
